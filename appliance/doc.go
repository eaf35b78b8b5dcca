// Package appliance puts edgepost together: [Config], and New, Start, Stop. It is the only package
// that knows every other one; the calls that listeners make meet the rules, the register of devices
// and the core here.
package appliance
