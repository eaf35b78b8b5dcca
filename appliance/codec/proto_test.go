package codec

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"edgepost/appliance/message"
)

// cloudEvents builds the descriptor of cloudevents.proto (CloudEvents Protobuf format 1.0.2).
func cloudEvents(t testing.TB) (event, value, batch protoreflect.MessageDescriptor) {
	t.Helper()
	type f = descriptorpb.FieldDescriptorProto
	const (
		str   = descriptorpb.FieldDescriptorProto_TYPE_STRING
		bytes = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		msg   = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	fd := func(name string, num int32, typ descriptorpb.FieldDescriptorProto_Type, typeName string, oneof, repeated bool) *f {
		x := &f{Name: new(name), Number: new(num), Type: typ.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if typeName != "" {
			x.TypeName = new(typeName)
		}
		if oneof {
			x.OneofIndex = proto.Int32(0)
		}
		if repeated {
			x.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		return x
	}
	oneof := func(name string) []*descriptorpb.OneofDescriptorProto {
		return []*descriptorpb.OneofDescriptorProto{{Name: new(name)}}
	}
	const pkg = ".io.cloudevents.v1.CloudEvent"
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("cloudevents.proto"), Package: new("io.cloudevents.v1"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/any.proto", "google/protobuf/timestamp.proto"},
		MessageType: []*descriptorpb.DescriptorProto{
			{
				Name: new("CloudEvent"),
				Field: []*f{
					fd("id", 1, str, "", false, false), fd("source", 2, str, "", false, false),
					fd("spec_version", 3, str, "", false, false), fd("type", 4, str, "", false, false),
					fd("attributes", 5, msg, pkg+".AttributesEntry", false, true),
					fd("binary_data", 6, bytes, "", true, false), fd("text_data", 7, str, "", true, false),
					fd("proto_data", 8, msg, ".google.protobuf.Any", true, false),
				},
				OneofDecl: oneof("data"),
				NestedType: []*descriptorpb.DescriptorProto{
					{
						Name:    new("AttributesEntry"),
						Field:   []*f{fd("key", 1, str, "", false, false), fd("value", 2, msg, pkg+".CloudEventAttributeValue", false, false)},
						Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
					},
					{
						Name: new("CloudEventAttributeValue"),
						Field: []*f{
							fd("ce_boolean", 1, descriptorpb.FieldDescriptorProto_TYPE_BOOL, "", true, false),
							fd("ce_integer", 2, descriptorpb.FieldDescriptorProto_TYPE_INT32, "", true, false),
							fd("ce_string", 3, str, "", true, false), fd("ce_bytes", 4, bytes, "", true, false),
							fd("ce_uri", 5, str, "", true, false), fd("ce_uri_ref", 6, str, "", true, false),
							fd("ce_timestamp", 7, msg, ".google.protobuf.Timestamp", true, false),
						},
						OneofDecl: oneof("attr"),
					},
				},
			},
			{Name: new("CloudEventBatch"), Field: []*f{fd("events", 1, msg, pkg, false, true)}},
		},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	event = file.Messages().ByName("CloudEvent")
	return event, event.Messages().ByName("CloudEventAttributeValue"), file.Messages().ByName("CloudEventBatch")
}

// TestProtobufEncodesLikeProtobufGo: protobuf-go reads every event of ours, and writes it back as the same bytes.
func TestProtobufEncodesLikeProtobufGo(t *testing.T) {
	event, _, batch := cloudEvents(t)
	var all []*message.Message
	for _, p := range []struct{ ct, schema, payload string }{
		{JSON, "", `{"n":9007199254740993,"名":"灯"}`},
		{Text, "", "开灯"},
		{Octets, "", "\x00\xff"},
		{"", "", ""},
		{"", "", "x"},
		{Protobuf, typePrefix + "acme.Switch", "\x08\x01"},
		{Protobuf, "urn:switch", "\x08\x01"},
	} {
		for _, when := range []string{"", "1970-01-01T00:00:00Z", "2026-11-23T14:00:00.5+08:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"} {
			m := received()
			m.ContentType, m.Payload, m.Event.DataSchema, m.Event.Time = p.ct, []byte(p.payload), p.schema, when
			m.ID, m.Seq = message.ID{Epoch: "k3f9w2xq", Seq: 1 << 40}, 1<<40
			all = append(all, m)
		}
	}
	check := func(b []byte, md protoreflect.MessageDescriptor) *dynamicpb.Message {
		t.Helper()
		d := dynamicpb.NewMessage(md)
		if err := proto.Unmarshal(b, d); err != nil {
			t.Fatalf("%v in %x", err, b)
		}
		if again, err := (proto.MarshalOptions{Deterministic: true}).Marshal(d); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%v\nours  %x\ntheirs %x", err, b, again)
		}
		return d
	}
	for _, m := range all {
		b, err := EncodeEvent(EventProtobuf, m, "ep-1")
		if err != nil {
			t.Fatal(err)
		}
		d := check(b, event)
		if got := d.Get(event.Fields().ByName("id")).String(); got != "A-1" {
			t.Errorf("id %s", got)
		}
		if p := d.Get(event.Fields().ByName("proto_data")).Message(); p.IsValid() != (m.Event.DataSchema == typePrefix+"acme.Switch") {
			t.Errorf("proto_data of %q: %v", m.Event.DataSchema, p)
		}
		got, err := DecodeEvent(EventProtobuf, b)
		if err != nil || got.Event.DataSchema != m.Event.DataSchema || string(got.Payload) != string(m.Payload) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
	b, err := EncodeBatch(BatchProtobuf, all, "ep-1")
	if err != nil {
		t.Fatal(err)
	}
	if n := check(b, batch).Get(batch.Fields().ByName("events")).List().Len(); n != len(all) {
		t.Errorf("%d events", n)
	}
}

// TestProtobufDecodesWhatProtobufGoWrites covers every type of attribute and of data.
func TestProtobufDecodesWhatProtobufGoWrites(t *testing.T) {
	event, value, _ := cloudEvents(t)
	set := func(d *dynamicpb.Message, name string, v protoreflect.Value) {
		d.Set(d.Descriptor().Fields().ByName(protoreflect.Name(name)), v)
	}
	str := protoreflect.ValueOfString
	when := timestamppb.New(time.Date(2026, 11, 23, 6, 0, 0, 5e8, time.UTC))
	wrapped := &anypb.Any{TypeUrl: typePrefix + "acme.Switch", Value: []byte("\x08\x01")}
	for _, c := range []struct {
		name, want string
		v          protoreflect.Value
	}{
		{"ce_boolean", "true", protoreflect.ValueOfBool(true)},
		{"ce_integer", "-2147483648", protoreflect.ValueOfInt32(-1 << 31)},
		{"ce_string", "灯", str("灯")},
		{"ce_bytes", "AP8=", protoreflect.ValueOfBytes([]byte{0, 255})},
		{"ce_uri", "urn:x", str("urn:x")},
		{"ce_uri_ref", "/x", str("/x")},
		{"ce_timestamp", "2026-11-23T06:00:00.5Z", protoreflect.ValueOfMessage(when.ProtoReflect())},
		{"", "", protoreflect.Value{}},
	} {
		d := dynamicpb.NewMessage(event)
		for name, v := range map[string]string{"id": "1", "source": "s", "spec_version": "1.0", "type": "t"} {
			set(d, name, str(v))
		}
		v := dynamicpb.NewMessage(value)
		if c.name != "" {
			set(v, c.name, c.v)
		}
		field := event.Fields().ByName("attributes")
		d.Mutable(field).Map().Set(str("x1").MapKey(), protoreflect.ValueOfMessage(v))
		set(d, "proto_data", protoreflect.ValueOfMessage(wrapped.ProtoReflect()))
		b, err := proto.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		m, err := DecodeEvent(EventProtobuf, b)
		if err != nil || len(m.Event.Extensions) != 1 || m.Event.Extensions[0] != (message.Property{Key: "x1", Value: c.want}) {
			t.Errorf("%s: %+v, %v", c.name, m, err)
			continue
		}
		if string(m.Payload) != "\x08\x01" || m.ContentType != Protobuf || m.Event.DataSchema != wrapped.TypeUrl {
			t.Errorf("%s: proto_data became %+v", c.name, m)
		}
	}
	// A field that only a later version knows is skipped; a timestamp outside its range is not.
	b, _ := EncodeEvent(EventProtobuf, received(), "ep-1")
	if m, err := DecodeEvent(EventProtobuf, append(b, "\x7a\x01x\x7a\x01y"...)); err != nil || m.Event.ID != "A-1" {
		t.Errorf("unknown field: %v", err)
	}
	_, err := DecodeEvent(EventProtobuf, append([]byte("\x2a\x0e\x0a\x01x\x12\x09\x3a\x07\x10\x80\x94\xeb\xdc\x03"), b...))
	wantCode(t, err, message.CodeBadRequest)
}
