package ws

import "bytes"

// The walk over JSON that [json.Valid] has accepted: no copies, no reflection, and no recursion, so
// that the reader's stack stays small. On anything else it may panic.

// members calls yield for each member of an object, in order; key is unquoted, value is raw, both may
// alias the object. It goes on to the end after an error, so that every id is seen, and returns the
// first one.
func members(object []byte, yield func(key, value []byte) error) error {
	var first error
	i := skipSpace(object, 1)
	for object[i] != '}' {
		end := skipString(object, i)
		key := object[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key = []byte(unquote(object[i:end]))
		}
		i = skipSpace(object, skipSpace(object, end)+1) // behind the colon
		end = skipValue(object, i)
		if err := yield(key, object[i:end]); err != nil && first == nil {
			first = err
		}
		if i = skipSpace(object, end); object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
	return first
}

// elements calls yield for each element of an array until it returns an error.
func elements(array []byte, yield func(value []byte) error) error {
	i := skipSpace(array, 1)
	for array[i] != ']' {
		end := skipValue(array, i)
		if err := yield(array[i:end]); err != nil {
			return err
		}
		if i = skipSpace(array, end); array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n' {
		i++
	}
	return i
}

// skipString returns the position behind the string that begins at i.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the position behind the value that begins at i.
func skipValue(b []byte, i int) int {
	for depth := 0; ; {
		switch b[i] {
		case '"':
			i = skipString(b, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			i = skipScalar(b, i)
		}
		if depth == 0 {
			return i
		}
	}
}

// skipScalar returns the position behind a number, true, false or null.
func skipScalar(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}
