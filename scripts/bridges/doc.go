// Package bridges tests the bridges of the real program against real brokers (package brokers), both ways, while
// brokers and gateways are killed and networks fail, and counts what was lost and what came twice. The table that
// TestLoss prints stands in the README.
//
// A kind of upstream is one row of [upstreams] in its tests: what [[bridge]] says, a consumer and a producer that know
// nothing of edgepost. Every scenario is run with every row.
package bridges
