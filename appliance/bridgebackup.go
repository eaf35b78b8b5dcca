package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edgepost/appliance/courier"
	"edgepost/appliance/message"
)

// export is what a backup holds of the bridges made over the API: their configurations, by name. Those of the file are in
// the configuration's text. Passwords are in neither: both name files.
func (bs *bridges) export(ctx context.Context) ([]byte, error) {
	all := make(map[string]json.RawMessage)
	for _, name := range bs.k.c.Names(courier.Bridge) {
		meta, err := bs.k.c.Meta(ctx, name)
		if err != nil {
			return nil, err
		}
		name = strings.TrimPrefix(name, bridgePrefix)
		if r, err := bs.find(name); len(meta) > 0 && (err != nil || !r.file) {
			all[name] = meta
		}
	}
	return json.Marshal(all)
}

// restore makes and changes bridges as a backup has them, and leaves others alone: what they owe is nobody's to end.
// problems are what kept single ones from it.
func (bs *bridges) restore(ctx context.Context, exported []byte) (restored int, problems []string, err error) {
	all := make(map[string]map[string]any)
	if err := json.Unmarshal(exported, &all); err != nil {
		return 0, nil, message.Problemf(message.CodeBadRequest, "the bridges of the backup cannot be read: %v", err)
	}
	bs.change.Lock()
	defer bs.change.Unlock()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := bs.put(ctx, name, all[name]); err != nil {
			problems = append(problems, fmt.Sprintf("bridge %s: %v", name, err))
			continue
		}
		restored++
	}
	return restored, problems, nil
}
