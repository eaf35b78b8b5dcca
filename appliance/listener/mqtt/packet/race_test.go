//go:build race

package packet

// seeds keeps random tests short where the race detector makes them slow.
func seeds(n int) int { return max(1, n/10) }
