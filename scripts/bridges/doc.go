// Package bridges tests the bridges of the real program against real brokers (package brokers), both ways, while
// brokers and gateways are killed and networks fail, and counts what was lost and what came twice.
//
// A kind of upstream is a row: what [[bridge]] says, and a consumer and a producer that know nothing of edgepost.
// TestLoss… runs every scenario with one row, on one broker and one gateway, and prints the row's line of the table in
// the README. By default some hundred messages go each way and networks fail for seconds; MESSAGES=20000 is the long
// run, where they fail for a minute and brokers stay down through an outage:
//
//	MESSAGES=20000 go test -timeout 3h -count 1 -v -parallel 1 -run TestLoss ./scripts/bridges
//
// Before that it pastes the README's lines for the kind, as a new user does, sends a device's telemetry up and a command
// down.
//
// TestBad… is what people get wrong. A test whose broker is not on this machine is skipped; under CI=true it fails.
package bridges
