package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	minSecret = 32       // minimum length of a secret in bytes
	maxFile   = 16 << 10 // maximum length of a key file in bytes
)

const goodFile = "a key file contains at least 32 random bytes, raw, in base64 or in hex; make one with: head -c 32 /dev/urandom | base64 > key"

// Load reads one secret from each file. If there are no paths, it returns nil, which seals
// nothing. The parameter acceptPlain sets the field AcceptPlain of [Keys].
func Load(paths []string, acceptPlain bool) (*Keys, error) {
	if len(paths) == 0 {
		if acceptPlain {
			return nil, errors.New("--encryption-accept-plain needs --encryption-key-file")
		}
		return nil, nil
	}
	secrets := make([][]byte, 0, len(paths))
	for _, path := range paths {
		secret, err := readSecret(path)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	keys, err := New(secrets...)
	if err != nil {
		return nil, fmt.Errorf("load key files: %w", err)
	}
	keys.AcceptPlain = acceptPlain
	return keys, nil
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	secret, err := decodeSecret(raw)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w; %s", path, err, goodFile)
	}
	return secret, nil
}

// decodeSecret accepts a secret in three forms: valid hex, valid base64, and raw bytes. If the
// file contains printable text that is neither hex nor base64, the text is probably a mistake,
// so decodeSecret refuses it.
func decodeSecret(raw []byte) ([]byte, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	text := bytes.TrimSpace(raw)
	if len(text) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	secret := raw
	if printable(text) {
		var ok bool
		if secret, ok = decodeText(string(text)); !ok {
			return nil, fmt.Errorf("it is text, but neither base64 nor hex")
		}
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("it holds %d bytes", len(secret))
	}
	return secret, nil
}

func decodeText(s string) ([]byte, bool) {
	if secret, err := hex.DecodeString(s); err == nil {
		return secret, true
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if secret, err := enc.DecodeString(s); err == nil {
			return secret, true
		}
	}
	return nil, false
}

func printable(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}
