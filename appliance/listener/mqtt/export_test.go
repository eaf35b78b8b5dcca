package mqtt

import "edgepost/appliance/listener/mqtt/packet"

// Build, Show and Match are the words of scenarios, for tests outside the package.
func Build(line string, v packet.Version) ([]byte, error) { return build(line, v) }

// Show is the inverse of Build for a server's packets.
func Show(p *packet.Packet, v packet.Version) string { return show(p, v) }

// Match compares a line of a scenario with what came.
func Match(want, got string) bool { return matchLine(want, got) }
