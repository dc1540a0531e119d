package session

import (
	"fmt"
	"slices"
)

// Leftovers describes what the maps of these sessions contain, apart from empty maps. Call it when
// the loop has ended, or on the loop.
func (ss *Sessions) Leftovers() (list []string) {
	for name, n := range map[string]int{
		"joins": len(ss.joins), "signals": len(ss.signals), "resends": len(ss.resends), "waiting": len(ss.waiting),
		"authIDs": len(ss.authIDs), "until": len(ss.permissions.until), "lapses": len(ss.permissions.lapses),
		"polls": len(ss.polls.waiting), "watches": len(ss.polls.watches), "asked": len(ss.questions.asked),
		"streams": len(ss.streams), "families": len(ss.families),
	} {
		if n > 0 {
			list = append(list, fmt.Sprintf("%d in %s", n, name))
		}
	}
	slices.Sort(list)
	return list
}
