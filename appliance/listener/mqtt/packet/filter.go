package packet

import "bytes"

// sharePrefix starts the filter of a shared subscription [MQTT-4.8.2-1].
const sharePrefix = "$share/"

// SplitShare splits a shared subscription's filter, "$share/group/filter" (5.0 §4.8.2). ok is false
// for any other filter, and for one that starts so but has no group or no filter: before 5.0 the
// name has no meaning of its own, and such a filter is an ordinary one.
func SplitShare(filter []byte) (group, rest []byte, ok bool) {
	tail, ok := bytes.CutPrefix(filter, []byte(sharePrefix))
	if !ok {
		return nil, filter, false
	}
	group, rest, ok = bytes.Cut(tail, []byte("/"))
	if !ok || len(group) == 0 || len(rest) == 0 || bytes.ContainsAny(group, "+#") {
		return nil, filter, false
	}
	return group, rest, true
}

// checkName holds a topic name to its rules: at least one character [MQTT-4.7.3-1], no NUL
// [MQTT-4.7.3-2], and no wildcard [MQTT-4.7.0-1] (3.1.1: [MQTT-4.7.1-1]). A 16-bit length keeps it within 65,535 bytes [MQTT-4.7.3-3].
func checkName(name []byte, what string) error {
	switch {
	case !validString(name):
		return malformed(what + " is not UTF-8, or holds a NUL")
	case len(name) == 0:
		return &Error{TopicNameInvalid, what + " is empty"}
	case bytes.IndexByte(name, '#') >= 0 || bytes.IndexByte(name, '+') >= 0:
		return &Error{TopicNameInvalid, what + " holds a wildcard"} // [MQTT-3.3.2-2]
	}
	return nil
}

// checkFilter holds a topic filter to its rules: not empty [MQTT-4.7.3-1], # alone in the last
// level [MQTT-4.7.1-1], + alone in its level [MQTT-4.7.1-2] (3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3]).
func checkFilter(v Version, filter []byte) error {
	if !validString(filter) {
		return malformed("topic filter is not UTF-8, or holds a NUL") // [MQTT-3.8.3-1], [MQTT-3.10.3-1]
	}
	if len(filter) == 0 {
		return &Error{TopicFilterInvalid, "topic filter is empty"}
	}
	if _, _, ok := SplitShare(filter); !ok && v == V5 && bytes.HasPrefix(filter, []byte(sharePrefix)) {
		// [MQTT-4.8.2-1], [MQTT-4.8.2-2].
		return &Error{TopicFilterInvalid, "shared subscription is not $share/group/filter"}
	}
	for i, c := range filter {
		if c != '+' && c != '#' {
			continue
		}
		last := i == len(filter)-1
		if i > 0 && filter[i-1] != '/' || !last && filter[i+1] != '/' {
			return &Error{TopicFilterInvalid, "wildcard does not fill its level of the topic filter"}
		}
		if c == '#' && !last {
			return &Error{TopicFilterInvalid, "# is not the last level of the topic filter"}
		}
	}
	return nil
}
