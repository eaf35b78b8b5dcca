// Package wal is edgepost's write-ahead log.
package wal
