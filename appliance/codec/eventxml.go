package codec

import "edgepost/appliance/message"

const xmlPreamble = ""

func notYet() error {
	return message.Problemf(message.CodeBadMediaType, "this format is not there yet")
}
func decodeXML([]byte) (*message.Message, error)              { return nil, notYet() }
func decodeBatchXML([]byte) ([]*message.Message, error)       { return nil, notYet() }
func appendXML([]byte, *message.Message, string, bool) []byte { return nil }
func encodeBatchXML([]*message.Message, string) []byte        { return nil }
func decodeProto([]byte) (*message.Message, error)            { return nil, notYet() }
func decodeBatchProto([]byte) ([]*message.Message, error)     { return nil, notYet() }
func appendProto([]byte, *message.Message, string) []byte     { return nil }
func encodeBatchProto([]*message.Message, string) []byte      { return nil }
