// Package layout holds the repository to its plan: which package may import which, the files of the
// top level, and the lengths that keep a file readable. Its test runs the checks over the real tree;
// the same test shows each check a made-up violation, so that none can pass by checking nothing.
//
// The table of packages is [houses]. A package that is not in it is a violation: say there what it
// is for, by saying what it stands on.
package layout
