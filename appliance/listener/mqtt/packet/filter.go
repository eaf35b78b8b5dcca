package packet

// SplitShare splits a shared subscription's filter, "$share/group/filter" (5.0 §4.8.2). ok is false
// for any other filter; before 5.0 the name has no such meaning unless the server gives it one.
func SplitShare(filter []byte) (group, rest []byte, ok bool) { return nil, filter, false }
