package console

import (
	"testing"

	"roomcast/proto"
)

func TestHelpSaysWhatEachActDoes(t *testing.T) {
	for _, rule := range proto.Acts {
		if purposes[rule.Act] == "" {
			t.Errorf("nothing says what %s does", rule.Act)
		}
	}
	if len(purposes) != len(proto.Acts) {
		t.Errorf("got %d purposes for %d acts", len(purposes), len(proto.Acts))
	}
}
