package httpapi

import (
	"strings"
	"testing"

	"edgepost/appliance/message"
)

func TestSealIsRead(t *testing.T) {
	const key = `{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`
	s := start(t)
	if w := s.send("PUT", "/v1/devices/lamp1/seal", `{"form":"a256gcm","key":`+key+`}`); w.Code != 200 || s.last() != "SetSeal lamp1 a256gcm true false" {
		t.Errorf("%d %q %s", w.Code, s.last(), w.Body)
	}
	for body, says := range map[string]string{
		`{}`:                               "jwe, a256gcm or off",
		`{"form":"des"}`:                   "DES is not offered",
		`{"form":"3DES"}`:                  "3DES is not offered",
		`{"form":"rc4"}`:                   "RC4 is not offered",
		`{"form":"md5"}`:                   "MD5 is not offered",
		`{"form":"gzip"}`:                  "jwe, a256gcm or off",
		`{"form":"off","new":true}`:        "off has neither",
		`{"form":"off","key":` + key + `}`: "off has neither",
		`{"form":"jwe","new":true,"key":` + key + `}`:                           "exclude each other",
		`{"form":"jwe","key":{"kty":"oct","alg":"DES-CBC","k":"AAECAwQFBgcI"}}`: "DES is not offered",
		`{"form":"jwe","key":{"kty":"oct","k":"AAECAwQFBgcI"}}`:                 "32 bytes",
	} {
		s := start(t)
		p := problem(t, s.send("PUT", "/v1/devices/lamp1/seal", body), message.CodeBadRequest)
		if !strings.Contains(p.Detail, says) || strings.Contains(p.Detail, "AAECAwQF") || s.last() != "" {
			t.Errorf("%s: %q, core asked %q", body, p.Detail, s.last())
		}
	}
}
