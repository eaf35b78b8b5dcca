package codec

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"edgepost/appliance/message"
)

// example is one event as somebody else writes it, and what it means.
type example struct {
	name, mediaType, body string
	ct, payload           string
	event                 message.Event
}

func (x example) check(t *testing.T) {
	m, err := DecodeEvent(x.mediaType, []byte(x.body))
	if err != nil {
		t.Fatal(err)
	}
	if m.ContentType != x.ct || string(m.Payload) != x.payload {
		t.Errorf("%q %q", m.ContentType, m.Payload)
	}
	if !reflect.DeepEqual(m.Event, x.event) {
		t.Errorf("got  %+v\nwant %+v", m.Event, x.event)
	}
	if x.name == "json types" && (m.Priority != 9 || m.TTL != time.Minute) {
		t.Errorf("priority %d ttl %v", m.Priority, m.TTL)
	}
	if m.Topic != "" || m.QoS != message.AtLeastOnce {
		t.Errorf("topic %q qos %d", m.Topic, m.QoS)
	}
}

// The examples of the specifications, and what differs from them in a legal way.

func TestDecodeJSONExamples(t *testing.T) {
	jsonHead := `{"specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext", "id" : "D234-1234-1234", "time" : "2018-04-05T17:31:00Z",
		"comexampleextension1" : "value", "comexampleothervalue" : 5, "unsetextension": null, "subject": null, `
	jsonEvent := message.Event{
		ID: "D234-1234-1234", Source: "/mycontext", Type: "com.example.someevent", Time: "2018-04-05T17:31:00Z",
		Extensions: []message.Property{{Key: "comexampleextension1", Value: "value"}, {Key: "comexampleothervalue", Value: "5"}},
	}
	for _, x := range []example{
		{"json string, no type", EventJSON, jsonHead + `"data" : "I'm just a string"}`, JSON, `"I'm just a string"`, jsonEvent},
		{"json object", EventJSON, jsonHead + `"datacontenttype":"application/json","data" : { "a" : 9007199254740993.0 } }`, JSON, `{ "a" : 9007199254740993.0 }`, jsonEvent},
		{"json null", EventJSON, jsonHead + `"data":null}`, JSON, `null`, jsonEvent},
		{"json xml", "Application/CloudEvents+JSON; charset=\"UTF-8\"", jsonHead + `"data":"<much wow=\"xml\"\/>","datacontenttype":"application/xml"}`, XML, `<much wow="xml"/>`, jsonEvent},
		{"json surrogates", EventJSON, jsonHead + `"data":"\ud83d\ude00\u706f","datacontenttype":"text/plain"}`, Text, "😀灯", jsonEvent},
		{"json base64", EventJSON, jsonHead + `"data_base64":"AP8=","datacontenttype":"image/png"}`, "image/png", "\x00\xff", jsonEvent},
		{"json without data", EventJSON, jsonHead + `"data_base64":null}`, "", "", jsonEvent},
		{
			"json types", EventJSON, `{"id":"1","source":"s","type":"t","specversion":"1.0","b":true,"i":-12,"z":-0,"priority":9,"ttl":"60"}`, "", "",
			message.Event{ID: "1", Source: "s", Type: "t", Extensions: []message.Property{{Key: "b", Value: "true"}, {Key: "i", Value: "-12"}, {Key: "z", Value: "0"}}},
		},
	} {
		t.Run(x.name, x.check)
	}
}

func TestDecodeXMLExamples(t *testing.T) {
	xmlHead := `<?xml version="1.0" encoding="UTF-8"?>
<event xmlns="http://cloudevents.io/xmlformat/V1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xmlns:xs="http://www.w3.org/2001/XMLSchema" specversion="1.0" >
    <time>2020-03-19T12:54:00-07:00</time><!-- a comment -->
    <id>000-1111-2222</id>
    <source>urn:uuid:123e4567-e89b-12d3-a456-426614174000</source>
    <type>SOME.EVENT.TYPE</type>
    `
	xmlEvent := message.Event{ID: "000-1111-2222", Source: "urn:uuid:123e4567-e89b-12d3-a456-426614174000", Type: "SOME.EVENT.TYPE", Time: "2020-03-19T12:54:00-07:00"}
	withExtensions := func(e message.Event, x ...message.Property) message.Event {
		e.Extensions = x
		return e
	}
	for _, x := range []example{
		{"xml binary", EventXML, xmlHead + `<datacontenttype>image/png</datacontenttype><data xsi:type="xs:base64Binary"> AP
			8= </data></event>`, "image/png", "\x00\xff", xmlEvent},
		{"xml json", EventXML, xmlHead + `<datacontenttype>application/json</datacontenttype><data xsi:type="xs:string">{ "salutation": &quot;早上好&#x21;" }</data></event> `, JSON, `{ "salutation": "早上好!" }`, xmlEvent},
		{"xml in xml", EventXML, xmlHead + `<datacontenttype>application/xml</datacontenttype><data xsi:type="xs:any">
        <geo:Location xmlns:geo="http://someauthority.example/"><!-- kept -->
            <geo:Latitude a='1'>51.509865</geo:Latitude><![CDATA[<>]]>
        </geo:Location>
    </data></event>`, XML, `<geo:Location xmlns:geo="http://someauthority.example/"><!-- kept -->
            <geo:Latitude a='1'>51.509865</geo:Latitude><![CDATA[<>]]>
        </geo:Location>`, xmlEvent},
		{"xml in default namespace", EventXML, xmlHead + `<data xsi:type="xs:any"><a/></data></event>`, "", `<a xmlns="http://cloudevents.io/xmlformat/V1"/>`, xmlEvent},
		{
			"xml prefixes", EventXML, "\uFEFF" + `<ce:event xmlns:ce="http://cloudevents.io/xmlformat/V1" xmlns:i="http://www.w3.org/2001/XMLSchema-instance"
			xmlns:geo="http://someauthority.example/?a&amp;b" specversion="1.0"><ce:id>1</ce:id><ce:source i:type="ce:uriRef">s</ce:source><ce:type>t</ce:type>
			<ce:b i:type="ce:boolean">1</ce:b><ce:i i:type="ce:integer"> -07 </ce:i><ce:y i:type="ce:binary">A P8=</ce:y><ce:w i:type="ce:timestamp">2020-03-19t12:54:00z</ce:w>
			<ce:s i:type="ce:string"> a  b </ce:s><ce:data i:type="xs:any"><geo:L><geo:M/></geo:L></ce:data></ce:event>`,
			"", `<geo:L xmlns:geo="http://someauthority.example/?a&amp;b"><geo:M/></geo:L>`,
			withExtensions(message.Event{ID: "1", Source: "s", Type: "t"}, message.Property{Key: "b", Value: "true"}, message.Property{Key: "i", Value: "-7"},
				message.Property{Key: "y", Value: "AP8="}, message.Property{Key: "w", Value: "2020-03-19t12:54:00z"}, message.Property{Key: "s", Value: " a  b "}),
		},
	} {
		t.Run(x.name, x.check)
	}
}

// refusal is an event that is refused with a code and a sentence that says a word.
type refusal struct{ mediaType, body, code, says string }

func refuses(t *testing.T, rs []refusal) {
	t.Helper()
	for _, r := range rs {
		m, err := DecodeEvent(r.mediaType, []byte(r.body))
		p := message.ProblemOf(err)
		if p == nil || p.Code != r.code || !strings.Contains(p.Detail, r.says) {
			t.Errorf("%s %.200q: %+v, %v; want %s with %q", r.mediaType, r.body, m, err, r.code, r.says)
		}
	}
}

func TestDecodeRefusesJSON(t *testing.T) {
	j := func(s string) string { return `{"id":"1","source":"s","type":"t","specversion":"1.0",` + s + `}` }
	refuses(t, []refusal{
		{"text/plain", "", message.CodeBadMediaType, "text/plain"},
		{EventJSON + ";charset=gbk", "{}", message.CodeBadMediaType, "gbk"},
		{BatchJSON, "[]", message.CodeBadMediaType, "batch"},
		{EventJSON, "", message.CodeBadJSON, "no object"},
		{EventJSON, "[]", message.CodeBadJSON, "no object"},
		{EventJSON, "\xff", message.CodeBadUTF8, "UTF-8"},
		{EventJSON, `{"id":"1","source":"s","type":"t"}`, message.CodeBadRequest, "specversion"},
		{EventJSON, `{"id":"1","source":"s","type":"t","specversion":"0.3"}`, message.CodeBadRequest, `"0.3"`},
		{EventJSON, `{"source":"s","type":"t","specversion":"1.0"}`, message.CodeBadRequest, "no id"},
		{EventJSON, `{"id":"","source":"s","type":"t","specversion":"1.0"}`, message.CodeBadRequest, "no id"},
		{EventJSON, `{"id":"1","source":"s","type":null,"specversion":"1.0"}`, message.CodeBadRequest, "no type"},
		{EventJSON, `{"id":1,"source":"s","type":"t","specversion":"1.0"}`, message.CodeBadJSON, "id"},
		{EventJSON, j(`"id":"2"`), message.CodeBadJSON, "twice"},
		{EventJSON, j(`"\u0069d":"2"`), message.CodeBadJSON, "twice"},
		{EventJSON, j(`"data":1,"data":2`), message.CodeBadJSON, "twice"},
		{EventJSON, j(`"data":1,"data_base64":""`), message.CodeBadJSON, "both"},
		{EventJSON, j(`"data_base64":"?"`), message.CodeBadJSON, "base64"},
		{EventJSON, j(`"data_base64":1`), message.CodeBadJSON, "string"},
		{EventJSON, j(`"data":{},"datacontenttype":"text/plain"`), message.CodeBadJSON, "text/plain"},
		{EventJSON, j(`"data":"\ud800","datacontenttype":"text/plain"`), message.CodeBadUTF8, "surrogate"},
		{EventJSON, j(`"subject":"\udc00"`), message.CodeBadUTF8, "surrogate"},
		{EventJSON, j(`"Upper":"x"`), message.CodeBadName, "Upper"},
		{EventJSON, j(`"a_b":"x"`), message.CodeBadName, "a_b"},
		{EventJSON, j(`"":"x"`), message.CodeBadName, `""`},
		{EventJSON, j(`"abcdefghijklmnopqrstu":"x"`), message.CodeBadName, "20"},
		{EventJSON, j(`"x":1.5`), message.CodeBadJSON, "integer"},
		{EventJSON, j(`"x":2147483648`), message.CodeBadJSON, "integer"},
		{EventJSON, j(`"x":{}`), message.CodeBadJSON, "integer"},
		{EventJSON, j(`"x":"y"`) + "x", message.CodeBadJSON, "more text"},
		{EventJSON, j(`"x":"y",`), message.CodeBadJSON, "member name"},
		{EventJSON, j(`"data":` + strings.Repeat("[", MaxDepth+1)), message.CodeBadJSON, "deep"},
		{EventJSON, j(`"time":"yesterday"`), message.CodeBadRequest, "RFC 3339"},
		{EventJSON, j(`"priority":10`), message.CodeBadRequest, "priority"},
		{EventJSON, j(`"ttl":"99999999999"`), message.CodeBadRequest, "ttl"},
		{EventJSON, strings.Repeat(" ", MaxEventBytes+1), message.CodeTooLarge, "limit"},
	})
}

func TestDecodeRefusesXML(t *testing.T) {
	x := func(s string) string {
		return `<event` + xmlNamespaces + ` specversion="1.0"><id>1</id><source>s</source><type>t</type>` + s + `</event>`
	}
	deep := strings.Repeat(`<a>`, MaxDepth) + strings.Repeat(`</a>`, MaxDepth)
	refuses(t, []refusal{
		{EventXML, "", message.CodeBadRequest, "empty"},
		{EventXML, "<a", message.CodeBadRequest, "XML"},
		{EventXML, "\xff", message.CodeBadUTF8, "UTF-8"},
		{EventXML, `<event specversion="1.0"/>`, message.CodeBadRequest, "namespace"},
		{EventXML, `<?xml version="1.0" encoding="gbk"?>` + x(""), message.CodeBadRequest, "gbk"},
		{EventXML, `<!DOCTYPE a [<!ENTITY x "y">]>` + x("<b>&x;</b>"), message.CodeBadRequest, "document type"},
		{EventXML, x("<b>&x;</b>"), message.CodeBadRequest, "entity"},
		{EventXML, x("<?php x?>"), message.CodeBadRequest, "processing instruction"},
		{EventXML, x("") + x(""), message.CodeBadRequest, "more than one root"},
		{EventXML, x("") + "x", message.CodeBadRequest, "text at byte"},
		{EventXML, x("x"), message.CodeBadRequest, "text at byte"},
		{EventXML, x("<b><c/></b>"), message.CodeBadRequest, "child"},
		{EventXML, x("<b></c>"), message.CodeBadRequest, "XML"},
		{EventXML, x("<id>2</id>"), message.CodeBadRequest, "twice"},
		{EventXML, x("<specversion>1.0</specversion>"), message.CodeBadRequest, "specversion"},
		{EventXML, x(`<b xmlns="urn:other"/>`), message.CodeBadRequest, "urn:other"},
		{EventXML, x(`<b xsi:type="ce:integer">x</b>`), message.CodeBadRequest, "integer"},
		{EventXML, x(`<b xsi:type="ce:money">1</b>`), message.CodeBadRequest, "money"},
		{EventXML, x(`<subject xsi:type="ce:integer">1</subject>`), message.CodeBadRequest, "ce:string"},
		{EventXML, x(`<data>1</data>`), message.CodeBadRequest, "xsi:type"},
		{EventXML, x(`<data xsi:type="xs:string">1</data><data xsi:type="xs:string">1</data>`), message.CodeBadRequest, "twice"},
		{EventXML, x(`<data xsi:type="xs:base64Binary">?</data>`), message.CodeBadRequest, "base64"},
		{EventXML, x(`<data xsi:type="xs:any">x<a/></data>`), message.CodeBadRequest, "text at byte"},
		{EventXML, x(`<data xsi:type="xs:any"><a/><a/></data>`), message.CodeBadRequest, "more than one"},
		{EventXML, x(`<data xsi:type="xs:any"> </data>`), message.CodeBadRequest, "no child"},
		{EventXML, x(`<data xsi:type="xs:any">` + deep + `</data>`), message.CodeBadRequest, "deeper"},
		{EventXML, x(`<data xsi:type="xs:any"><a>`)[:200], message.CodeBadRequest, "XML"},
	})
}

func TestDecodeRefusesProtobuf(t *testing.T) {
	refuses(t, []refusal{
		{EventProtobuf, "", message.CodeBadRequest, "specversion"},
		{EventProtobuf, "\x0a", message.CodeBadRequest, "damaged"},
		{EventProtobuf, "\x0a\x01a\x0a\x01b", message.CodeBadRequest, "twice"},
		{EventProtobuf, "\x0a\x01\xff", message.CodeBadUTF8, "UTF-8"},
		{EventProtobuf, "\x08\x01", message.CodeBadRequest, "wrong type"},
		{EventProtobuf, "\x32\x00\x3a\x00", message.CodeBadRequest, "more than one"},
		{EventProtobuf, "\x2a\x05\x0a\x03a_b", message.CodeBadName, "a_b"},
		{EventProtobuf, "\x2a\x04\x0a\x02id", message.CodeBadRequest, "own field"},
	})
}
