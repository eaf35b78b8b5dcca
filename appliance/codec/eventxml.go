package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"edgepost/appliance/message"
)

// Namespaces of the CloudEvents XML format 1.0.3 §1.2.
const (
	nsEvent  = "http://cloudevents.io/xmlformat/V1"
	nsXSI    = "http://www.w3.org/2001/XMLSchema-instance"
	nsSchema = "http://www.w3.org/2001/XMLSchema"

	xmlPreamble   = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	xmlNamespaces = ` xmlns="` + nsEvent + `" xmlns:ce="` + nsEvent + `" xmlns:xsi="` + nsXSI + `" xmlns:xs="` + nsSchema + `"`
)

func badXML(format string, args ...any) error {
	return message.Problemf(message.CodeBadRequest, "XML: "+format, args...)
}

// xmlReader walks a document. It knows no DTD, no processing instructions but the first line, no entities but
// the five of XML itself, and UTF-8 only.
//
// Invariant: open is how many elements are open; start is where the last token began.
type xmlReader struct {
	body  []byte
	d     *xml.Decoder
	open  int
	start int64
	scope []xml.Attr // namespace declarations of the open envelope elements, outermost first
}

func newXMLReader(body []byte) (*xmlReader, error) {
	if !utf8.Valid(body) {
		return nil, message.Problemf(message.CodeBadUTF8, "the event is not valid UTF-8")
	}
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	return &xmlReader{body: body, d: xml.NewDecoder(bytes.NewReader(body))}, nil
}

// next returns the next start element, end element or text; io.EOF at the end.
func (r *xmlReader) next() (xml.Token, error) {
	for {
		r.start = r.d.InputOffset()
		t, err := r.d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, badXML("%v", err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if r.open++; r.open > MaxDepth {
				return nil, badXML("nested deeper than %d", MaxDepth)
			}
			return t, nil
		case xml.EndElement:
			r.open--
			return t, nil
		case xml.Directive:
			return nil, badXML("a document type or other directive at byte %d; none is allowed", r.start)
		case xml.ProcInst:
			if r.start != 0 || t.Target != "xml" {
				return nil, badXML("a processing instruction at byte %d; none is allowed", r.start)
			}
		case xml.CharData:
			return t, nil
		}
	}
}

// element returns the next start or end element; only white space may stand before it.
func (r *xmlReader) element() (xml.Token, error) {
	for {
		t, err := r.next()
		if err != nil {
			return nil, err
		}
		text, ok := t.(xml.CharData)
		if !ok {
			return t, nil
		}
		if len(bytes.TrimSpace(text)) > 0 {
			return nil, badXML("text at byte %d, where only elements may stand", r.start)
		}
	}
}

// root returns the one element of the document.
func (r *xmlReader) root(name string) (xml.StartElement, error) {
	t, err := r.element()
	if errors.Is(err, io.EOF) {
		err = badXML("the document is empty")
	}
	if err != nil {
		return xml.StartElement{}, err
	}
	e, _ := t.(xml.StartElement)
	if e.Name != (xml.Name{Space: nsEvent, Local: name}) {
		return e, badXML("the document is %.40q in the namespace %.80q, not %q in %q", e.Name.Local, e.Name.Space, name, nsEvent)
	}
	return e, nil
}

// end fails unless the document is over.
func (r *xmlReader) end() error {
	if _, err := r.element(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = badXML("more than one root element")
		}
		return err
	}
	return nil
}

func decodeXML(body []byte) (*message.Message, error) {
	r, err := newXMLReader(body)
	if err != nil {
		return nil, err
	}
	root, err := r.root("event")
	if err != nil {
		return nil, err
	}
	m, err := r.event(root)
	if err != nil {
		return nil, err
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return m, nil
}

func decodeBatchXML(body []byte) ([]*message.Message, error) {
	r, err := newXMLReader(body)
	if err != nil {
		return nil, err
	}
	root, err := r.root("batch")
	if err != nil {
		return nil, err
	}
	r.declare(root)
	var ms []*message.Message
	for {
		t, err := r.element()
		if err != nil {
			return nil, unexpected(err)
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			if err := r.end(); err != nil {
				return nil, err
			}
			return ms, nil
		}
		if e.Name != (xml.Name{Space: nsEvent, Local: "event"}) {
			return nil, badXML("the batch has the element %.40q, not only events", e.Name.Local)
		}
		if len(ms) == MaxBatch {
			return nil, tooMany()
		}
		outer := len(r.scope)
		m, err := r.event(e)
		if err != nil {
			return nil, &IndexError{len(ms), err}
		}
		r.scope = r.scope[:outer]
		ms = append(ms, m)
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return badXML("the document ends too early")
	}
	return err
}

// event reads the content of an open event element (XML format §4).
func (r *xmlReader) event(start xml.StartElement) (*message.Message, error) {
	e := draft{m: message.New("", nil)}
	for _, a := range start.Attr {
		if a.Name == (xml.Name{Local: "specversion"}) {
			if err := e.set("specversion", a.Value); err != nil {
				return nil, err
			}
		}
	}
	r.declare(start)
	hasData := false
	for {
		t, err := r.element()
		if err != nil {
			return nil, unexpected(err)
		}
		c, ok := t.(xml.StartElement)
		switch {
		case !ok:
			return e.finish()
		case c.Name.Space != nsEvent:
			return nil, badXML("the element %.40q is in the namespace %.80q, not %q", c.Name.Local, c.Name.Space, nsEvent)
		case c.Name.Local == "specversion":
			return nil, badXML("specversion belongs into the event element's own attributes")
		case c.Name.Local == "data" && hasData:
			return nil, badXML("the event has data twice")
		case c.Name.Local == "data":
			hasData = true
			e.m.Payload, err = r.data(c)
		default:
			err = r.attribute(&e, c)
		}
		if err != nil {
			return nil, err
		}
	}
}

// declare notes the namespaces that an envelope element declares.
func (r *xmlReader) declare(e xml.StartElement) {
	for _, a := range e.Attr {
		if a.Name.Space == "xmlns" || a.Name == (xml.Name{Local: "xmlns"}) {
			r.scope = append(r.scope, a)
		}
	}
}

// xsiType returns the local part of an element's xsi:type. The prefix is not looked at: the format's
// own examples use prefixes that they do not declare.
func xsiType(e xml.StartElement) string {
	for _, a := range e.Attr {
		if a.Name == (xml.Name{Space: nsXSI, Local: "type"}) {
			_, local, found := strings.Cut(strings.TrimSpace(a.Value), ":")
			if !found {
				return strings.TrimSpace(a.Value)
			}
			return local
		}
	}
	return ""
}

// text reads the text of an open element that may have no children.
func (r *xmlReader) text(name string) (string, error) {
	var b []byte
	for {
		t, err := r.next()
		if err != nil {
			return "", unexpected(err)
		}
		switch t := t.(type) {
		case xml.CharData:
			b = append(b, t...)
		case xml.StartElement:
			return "", badXML("the element %.40q has a child element", name)
		default:
			return string(b), nil
		}
	}
}

// attribute reads one context attribute (§2). An extension without a type counts as a string.
func (r *xmlReader) attribute(e *draft, c xml.StartElement) error {
	name, typ := c.Name.Local, xsiType(c)
	value, err := r.text(name)
	if err != nil {
		return err
	}
	if CoreAttribute(name) {
		want := "string"
		switch name {
		case "source":
			want = "uriRef"
		case "dataschema":
			want = "uri"
		case "time":
			want = "timestamp"
		}
		if typ != "" && typ != want {
			return badXML("the attribute %s has the type %.40q, not ce:%s", name, typ, want)
		}
		typ = want
	}
	if value, err = xmlValue(name, typ, value); err != nil {
		return err
	}
	return e.set(name, value)
}

// xmlValue returns an attribute's canonical string.
func xmlValue(name, typ, value string) (string, error) {
	trimmed := strings.TrimSpace(value)
	switch typ {
	case "", "string":
		return value, nil
	case "uri", "uriRef":
		return trimmed, nil
	case "boolean":
		switch trimmed {
		case "true", "1":
			return "true", nil
		case "false", "0":
			return "false", nil
		}
	case "integer":
		if n, err := strconv.ParseInt(trimmed, 10, 32); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
	case "binary":
		if b, err := base64Text(value); err == nil {
			return base64.StdEncoding.EncodeToString(b), nil
		}
	case "timestamp":
		if _, err := time.Parse(time.RFC3339, strings.ToUpper(trimmed)); err == nil {
			return trimmed, nil
		}
	default:
		return "", badXML("the attribute %.40q has the unknown type %.40q", name, typ)
	}
	return "", badXML("the attribute %.40q is not a ce:%s: %.40q", name, typ, trimmed)
}

// base64Text decodes xs:base64Binary, in which white space means nothing.
func base64Text(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
}

// data reads the payload (§3).
func (r *xmlReader) data(c xml.StartElement) ([]byte, error) {
	switch typ := xsiType(c); typ {
	case "string":
		text, err := r.text("data")
		return []byte(text), err
	case "base64Binary":
		text, err := r.text("data")
		if err != nil {
			return nil, err
		}
		b, err := base64Text(text)
		if err != nil {
			return nil, badXML("the event's data is not base64: %v", err)
		}
		return b, nil
	case "any":
		return r.child(c)
	default:
		return nil, badXML("the event's data has the xsi:type %.40q; use xs:string, xs:base64Binary or xs:any", typ)
	}
}

// child reads the one child of the open data element as the bytes it came in. Namespaces that the
// envelope declares and the child uses are declared again in it, so that it stands on its own.
func (r *xmlReader) child(data xml.StartElement) ([]byte, error) {
	outer := len(r.scope)
	r.declare(data)
	defer func() { r.scope = r.scope[:outer] }()
	t, err := r.element()
	if err != nil {
		return nil, unexpected(err)
	}
	root, ok := t.(xml.StartElement)
	if !ok {
		return nil, badXML("the event's data is xs:any but has no child element")
	}
	from, depth := r.start, r.open
	spaces := map[string]bool{root.Name.Space: true}
	for r.open >= depth {
		if t, err = r.next(); err != nil {
			return nil, unexpected(err)
		}
		if e, ok := t.(xml.StartElement); ok {
			spaces[e.Name.Space] = true
		}
	}
	raw := r.body[from:r.d.InputOffset()]
	if t, err = r.element(); err != nil {
		return nil, unexpected(err)
	}
	if _, more := t.(xml.StartElement); more {
		return nil, badXML("the event's data is xs:any but has more than one child element")
	}
	return r.standalone(root, raw, spaces), nil
}

func (r *xmlReader) standalone(root xml.StartElement, raw []byte, spaces map[string]bool) []byte {
	own := map[xml.Name]bool{}
	for _, a := range root.Attr {
		own[a.Name] = true
	}
	var add []byte
	for _, a := range slices.Backward(r.scope) { // the innermost declaration counts

		if own[a.Name] {
			continue
		}
		own[a.Name] = true
		if a.Name.Space == "" {
			if spaces[a.Value] && a.Value != "" {
				add = appendXMLText(append(add, ` xmlns="`...), a.Value)
				add = append(add, '"')
			}
		} else if bytes.Contains(raw, []byte(a.Name.Local+":")) {
			add = append(append(append(add, " xmlns:"...), a.Name.Local...), `="`...)
			add = append(appendXMLText(add, a.Value), '"')
		}
	}
	if add == nil {
		return raw
	}
	at := bytes.IndexAny(raw, " \t\r\n/>")
	return append(append(append(make([]byte, 0, len(raw)+len(add)), raw[:at]...), add...), raw[at:]...)
}

func appendXMLText(dst []byte, s string) []byte {
	w := appender{dst}
	_ = xml.EscapeText(&w, []byte(s)) // an appender does not fail
	return w.b
}

// appendXML writes an event element, with its namespaces when it is the root. An extension whose
// name starts with a digit cannot be an XML element and is left out.
func appendXML(dst []byte, m *message.Message, gateway string, root bool) []byte {
	dst = append(dst, "<event"...)
	if root {
		dst = append(dst, xmlNamespaces...)
	}
	dst = append(dst, ` specversion="1.0">`...)
	as := Attributes(m, gateway)[1:] // without specversion
	if m.ContentType != "" {
		as = append(as, message.Property{Key: "datacontenttype", Value: m.ContentType})
	}
	for _, a := range as {
		if digit(a.Key[0]) {
			continue
		}
		dst = append(append(dst, '<'), a.Key...)
		if _, ok := integer(a); ok {
			dst = append(dst, ` xsi:type="ce:integer"`...)
		} else if !CoreAttribute(a.Key) {
			dst = append(dst, ` xsi:type="ce:string"`...)
		}
		dst = appendXMLText(append(dst, '>'), a.Value)
		dst = append(append(append(dst, "</"...), a.Key...), '>')
	}
	f := formOf(m.ContentType)
	switch {
	case len(m.Payload) == 0:
	case (f == formText || f == formJSON) && xmlText(m.Payload):
		dst = append(dst, `<data xsi:type="xs:string">`...)
		dst = append(appendXMLText(dst, string(m.Payload)), "</data>"...)
	default:
		dst = append(dst, `<data xsi:type="xs:base64Binary">`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, m.Payload), "</data>"...)
	}
	return append(dst, "</event>"...)
}

// xmlText reports whether every character may stand in a document (XML 1.0 §2.2).
func xmlText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	return !bytes.ContainsFunc(b, func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	})
}

func encodeBatchXML(ms []*message.Message, gateway string) []byte {
	dst := []byte(xmlPreamble + "<batch" + xmlNamespaces + ">")
	for _, m := range ms {
		dst = appendXML(dst, m, gateway, false)
	}
	return append(dst, "</batch>"...)
}

// appender is a byte slice to write to.
type appender struct{ b []byte }

func (w *appender) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
