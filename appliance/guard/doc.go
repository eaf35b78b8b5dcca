// Package guard decides who may connect at all, before anybody says who they are: [Sources] by
// address, [Web] by what a browser says about the page that a request comes from. Who may do what
// then is package auth's.
package guard
