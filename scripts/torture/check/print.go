package check

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Print writes the summary as a table, and then the violations.
func (r *Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what string, v any) { fmt.Fprintf(t, "  %s\t%v\n", what, v) }
	row("messages said", r.OK+r.Failed+r.Unknown)
	row("  acknowledged", fmt.Sprintf("%d, %d of them as stored before", r.OK, r.Duplicates))
	row("  refused for good", r.Failed)
	for _, code := range slices.Sorted(maps.Keys(r.Refusals)) {
		row("    "+code, r.Refusals[code])
	}
	row("  without an answer", r.Unknown)
	row("stored events", r.Stored)
	row("deliveries", r.Deliveries)
	row("  to text sessions", r.TextDeliveries)
	row("  to applications", r.Told)
	row("pages of history", r.Pages)
	row("counts of members", r.Counts)
	row("announced gaps", fmt.Sprintf("%d, %d of them new epochs", r.Gaps, r.Resets))
	row("acknowledged, then destroyed and announced", r.Destroyed)
	row("connections", r.Links)
	row("exact resumes", r.Resumes)
	row("slowest ack", r.SlowestAck.Round(time.Millisecond))
	row("longest time without an ack", fmt.Sprintf("%v, with %d faults at work", r.LongestAckGap.Round(time.Millisecond), r.AckGapFaults))
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		f := r.Faults[name]
		row("fault: "+name, fmt.Sprintf("%d, alone at most %v without an ack", f.Times, f.Alone.Round(time.Millisecond)))
	}
	row("violations", r.count())
	t.Flush()
	for _, v := range r.Violations {
		fmt.Fprintln(w, "VIOLATION", v)
	}
	for rule, n := range r.Broken {
		if n > maxKept {
			fmt.Fprintf(w, "and %d more of %q\n", n-maxKept, rule)
		}
	}
}

// PrintPeriods writes a table with the number of acks during each fault.
func (r *Report) PrintPeriods(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  fault\tat\tfor\tacks\tacks/s\tlongest without an ack")
	for _, s := range r.Periods {
		fmt.Fprintf(t, "  %s\t%v\t%v\t%d\t%.1f\t%v\n", s.Name, s.From.Round(100*time.Millisecond),
			s.For.Round(100*time.Millisecond), s.Acks, float64(s.Acks)/max(s.For.Seconds(), 0.001), s.Gap.Round(10*time.Millisecond))
	}
	t.Flush()
}

func (r *Report) count() (n int) {
	for _, k := range r.Broken {
		n += k
	}
	return n
}
