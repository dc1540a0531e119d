package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The compose file names a full version of each image, and has no default passwords.
func TestComposeIsPinned(t *testing.T) {
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	images := regexp.MustCompile(`(?m)^ *image: (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(images) < 4 {
		t.Fatalf("got %d images, want the images of NATS and of the monitoring", len(images))
	}
	for _, image := range images {
		if !regexp.MustCompile(`:v?\d+\.\d+\.\d+(-alpine)?$`).MatchString(image[1]) {
			t.Errorf("image %s has no full version", image[1])
		}
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if regexp.MustCompile(`(?i)password[^#]*:-`).MatchString(line) {
			t.Errorf("%q: a password has a default", strings.TrimSpace(line))
		}
	}
	if !strings.Contains(string(b), `GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION: "true"`) {
		t.Error("Grafana has its default admin")
	}
}
