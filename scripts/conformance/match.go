package main

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// match describes how a value differs from a pattern; "" = the value matches. An object may have
// fields that the pattern does not have. In a pattern, null means that the field must be absent,
// and "*" matches any value.
func match(pattern, value any) string {
	want, isObject := pattern.(map[string]any)
	if !isObject {
		if pattern == "*" && value != nil || reflect.DeepEqual(pattern, value) {
			return ""
		}
		return fmt.Sprintf("is %s, not %s", compact(value), compact(pattern))
	}
	got, isObject := value.(map[string]any)
	if !isObject {
		return fmt.Sprintf("is %s, not an object", compact(value))
	}
	for name, p := range want {
		v, present := got[name]
		if !present && p == nil {
			continue
		}
		if why := match(p, v); why != "" {
			return name + " " + why
		}
	}
	return ""
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func parseObject(text string) (map[string]any, error) {
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("parse %s: %w", text, err)
	}
	return o, nil
}
