package webhook

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The example comes from the specification of Standard Webhooks.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	secrets, err := ParseSecrets([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"))
	if err != nil {
		t.Fatal(err)
	}
	header := make(http.Header)
	secrets.Sign(header, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got, want := header.Get("Webhook-Signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if header.Get("Webhook-Id") != "msg_p5jXN8AQM9LWM0D4loKWxJek" || header.Get("Webhook-Timestamp") != "1614265330" {
		t.Errorf("got %v", header)
	}
}

func TestEachOfTwoSecretsSigns(t *testing.T) {
	secrets, err := ParseSecrets([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw a-secret-of-24-bytes-as-is"))
	if err != nil {
		t.Fatal(err)
	}
	header := make(http.Header)
	secrets.Sign(header, "id", time.Unix(1, 0), nil)
	if list := strings.Fields(header.Get("Webhook-Signature")); len(list) != 2 || list[0] == list[1] {
		t.Errorf("got %v, want two signatures", list)
	}
}

func TestBadSecretsAreRefused(t *testing.T) {
	long := strings.Repeat("x", 24)
	for _, bad := range []string{"", "short", "whsec_!!!", "whsec_c2hvcnQ=", long + " " + long + " " + long} {
		if got, err := ParseSecrets([]byte(bad)); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}
