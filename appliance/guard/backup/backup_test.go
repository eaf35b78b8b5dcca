package backup

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"edgepost/appliance/message"
)

const words = "correct horse battery"

func code(err error) string {
	if p := message.ProblemOf(err); p != nil {
		return p.Code
	}
	return ""
}

func TestSealAndOpen(t *testing.T) {
	files := []File{{"registry", []byte{0, 1, 2}}, {"tls/key.pem", []byte("secret key")}, {"empty", []byte{}}}
	a, err := Seal(words, files)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Seal(words, files)
	if bytes.Contains(a, []byte("secret key")) || bytes.Contains(a, []byte("tls/")) || bytes.Equal(a[len(magic):], b[len(magic):]) {
		t.Error("it is not encrypted, or twice the same")
	}
	got, err := Open(words, a)
	if err != nil || !reflect.DeepEqual(got, files) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Open(words+"!", a); code(err) != message.CodeForbidden {
		t.Errorf("another passphrase: %v", err)
	}
	for _, i := range []int{len(magic), headBytes - 1, headBytes, len(a) - 1} { // salt, nonce, text, tag
		bad := bytes.Clone(a)
		bad[i] ^= 1
		if _, err := Open(words, bad); code(err) != message.CodeForbidden {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{"nothing": nil, "short": a[:headBytes-1], "something else": bytes.Repeat([]byte("x"), 100), "a later version": append([]byte("edgepost backup 2\n"), a[len(magic):]...)} {
		if _, err := Open(words, bad); code(err) != message.CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Seal("灯灯灯灯灯灯", files); code(err) != message.CodeBadRequest {
		t.Errorf("a short passphrase: %v", err)
	}
	if _, err := Seal(words, []File{{"big", make([]byte, MaxBytes)}}); code(err) != message.CodeTooLarge {
		t.Errorf("too large: %v", err)
	}
}

func TestNamesStayInside(t *testing.T) {
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", "a//b", ".", "a\\b"} {
		b, err := Seal(words, []File{{name, []byte("x")}})
		if err != nil {
			continue
		}
		if _, err := Open(words, b); err == nil {
			t.Errorf("%q is unpacked", name)
		}
	}
}

// FuzzUnpack feeds what somebody who has the passphrase might have packed.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte(""))
	f.Add(bytes.Repeat([]byte{0}, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := unpack(b)
		for _, file := range files {
			if err == nil && (!local(file.Name) || strings.HasPrefix(file.Name, "/")) {
				t.Errorf("%q", file.Name)
			}
		}
	})
}
