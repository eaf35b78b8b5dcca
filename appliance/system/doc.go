// Package system is what the appliance needs of the machine it runs on: its [Clock], and in packages of their own what
// people watch (pulse, usage, logring) and long work (job).
package system
