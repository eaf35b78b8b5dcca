// Package system is what the appliance needs of the machine it runs on: for now its [Clock].
package system
