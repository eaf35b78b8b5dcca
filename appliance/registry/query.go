package registry

import (
	"slices"
	"strings"

	"edgepost/appliance/guard/auth"
)

// Query selects devices; empty fields select all.
type Query struct {
	Search string // part of the id or the label, in any case of letters
	Group  string
	After  string // ids above this one
	Limit  int    // 0: no limit
}

// Find returns the first devices that the query selects, by id, and how many it would select without After and Limit. keep,
// unless nil, has a last say on those that are left.
func (r *Registry) Find(q Query, keep func(ids []string) []string) (page []Device, total int) {
	ids := r.ids(q)
	if keep != nil {
		ids = keep(ids)
	}
	total = len(ids)
	i, found := slices.BinarySearch(ids, q.After)
	if found {
		i++
	}
	ids = ids[i:]
	if q.Limit > 0 {
		ids = ids[:min(len(ids), q.Limit)]
	}
	page = make([]Device, 0, len(ids))
	for _, id := range ids {
		if d, ok := r.Device(id); ok {
			page = append(page, d)
		}
	}
	return page, total
}

// ids lists the devices that search and group select, sorted.
func (r *Registry) ids(q Query) []string {
	search := strings.ToLower(q.Search)
	r.mu.RLock()
	defer r.mu.RUnlock()
	var ids []string
	for _, p := range r.tables.principals {
		if p.kind != auth.Device {
			continue
		}
		d := p.asDevice()
		if q.Group != "" && !slices.Contains(d.Groups, q.Group) {
			continue
		}
		if search == "" || strings.Contains(strings.ToLower(d.ID), search) || strings.Contains(strings.ToLower(d.Label), search) {
			ids = append(ids, d.ID)
		}
	}
	slices.Sort(ids)
	return ids
}
