package appliance

import (
	"context"
	"errors"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"edgepost/appliance/guard/auth"
	"edgepost/appliance/listener/httpapi"
)

// settings is the configuration in force, for people: secrets, of which a configuration should only name files, are left out.
func (a *Appliance) settings() []httpapi.Setting {
	var list []httpapi.Setting
	show(&list, "", reflect.ValueOf(a.cfg))
	for i := range list {
		s := &list[i]
		s.Origin = "default"
		if n, ok := a.lines[s.Key]; ok {
			s.Origin = "line " + strconv.Itoa(n)
		}
		for _, f := range a.o.Flags {
			if s.Key == f || strings.HasPrefix(s.Key, f+".") {
				s.Origin = "flag"
			}
		}
		if secret(s.Key) && s.Value != "" {
			s.Value = redacted
		}
	}
	return list
}

const redacted = "(not shown)"

// secret reports whether a key holds what must not be shown; the name of a file that holds it may be.
func secret(key string) bool {
	last := key[strings.LastIndexByte(key, '.')+1:]
	if strings.HasSuffix(last, "_file") || strings.HasSuffix(last, "_url") {
		return false
	}
	for _, word := range []string{"password", "passphrase", "secret", "token"} {
		if strings.Contains(last, word) {
			return true
		}
	}
	return false
}

// show lists a section's keys as a file would name them.
func show(list *[]httpapi.Setting, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if key := keyOf(v.Type().Field(i)); key != "" && key != "-" {
			showValue(list, prefix+key, v.Field(i))
		}
	}
}

func showValue(list *[]httpapi.Setting, key string, v reflect.Value) {
	add := func(value any) { *list = append(*list, httpapi.Setting{Key: key, Value: value}) }
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		add(FormatDuration(time.Duration(v.Int())))
	case v.Kind() == reflect.Struct:
		show(list, key+".", v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			add(nil)
			return
		}
		showValue(list, key, v.Elem())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			show(list, key+"["+strconv.Itoa(i)+"].", v.Index(i))
		}
	case v.Kind() == reflect.Slice:
		values := make([]string, v.Len())
		for i := range values {
			values[i] = plain(v.Index(i).String())
		}
		add(values)
	case v.Kind() == reflect.String:
		add(plain(v.String()))
	case v.CanInt():
		add(v.Int())
	case v.CanUint():
		add(v.Uint())
	case v.Kind() == reflect.Bool:
		add(v.Bool())
	case v.CanFloat():
		add(v.Float())
	}
}

// plain takes the password out of an address.
func plain(s string) string {
	if u, err := url.Parse(s); err == nil && u.User != nil && strings.Contains(s, "://") {
		u.User = url.User(redacted)
		return u.String()
	}
	return s
}

// Settings is the configuration in force, with where each value comes from.
func (k *core) Settings(g *auth.Grant) ([]httpapi.Setting, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	return k.settings(), nil
}

// CheckConfig says what is wrong with the text of a configuration; it changes nothing.
func (k *core) CheckConfig(_ context.Context, g *auth.Grant, text string) ([]httpapi.Mistake, error) {
	if err := admin(g); err != nil {
		return nil, err
	}
	_, err := parseConfig("", text)
	ms, ok := errors.AsType[Mistakes](err)
	if err != nil && !ok {
		return nil, err
	}
	var out []httpapi.Mistake
	for _, m := range ms {
		out = append(out, httpapi.Mistake{Line: m.Line, Key: m.Key, Detail: m.Detail})
	}
	return out, nil
}
