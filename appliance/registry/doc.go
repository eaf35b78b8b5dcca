// Package registry knows who exists: devices, groups, keys, and the gateway's own name.
package registry
