// Package web is where the dashboard's source, its tests and the embedding of its build belong.
// There is no dashboard yet.
package web
