package wiretest

import (
	"fmt"

	"roomcast/gateway/wire"
	"roomcast/gateway/wire/wstest"
	"roomcast/proto"
)

// validTexts are the boundary cases of UTF-8 in Markus Kuhn's stress test, parts 1, 2 and 5.3.
var validTexts = []string{
	"κόσμε", "\x00", "\x7F", "\u0080", "\u07FF", "\u0800", "\uD7FF", "\uE000", "\uFFFD", "\uFFFE", "\uFFFF",
	"\U00010000", "\U0010FFFF", "你好", "👩‍👩‍👧‍👦", "Hello-µ@ßöäüàá-UTF-8!!", "\uFEFF",
}

// brokenTexts cannot become valid, whatever bytes follow. They come from parts 2 to 5 of Kuhn's
// stress test.
var brokenTexts = []string{
	"\x80", "\xBF", "\x80\xBF\x80", // continuation bytes without a first byte
	"\xC0 ", "\xDF ", "\xE0 ", "\xEF ", "\xF0 ", "\xF4 ", "\xE4\xBD ", "\xF0\x9F\x98 ", // a continuation byte is missing
	"\xFE", "\xFF", "\xFE\xFE\xFF\xFF", // bytes that do not occur in UTF-8
	"\xC0\xAF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", "\xF8\x80\x80\x80\xAF", "\xFC\x80\x80\x80\x80\xAF", // overlong encodings
	"\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xC0\x80", // the largest overlong encodings, and overlong NUL
	"\xED\xA0\x80", "\xED\xAF\xBF", "\xED\xBF\xBF", "\xED\xA0\x80\xED\xB0\x80", // surrogates
	"\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF7\xBF\xBF\xBF", // beyond U+10FFFF
}

// cutTexts end inside a character. They become valid if the right bytes follow.
var cutTexts = []string{"\xC3", "\xE4\xBD", "\xF0\x9F", "\xF0\x9F\x98", "\xE0\xA0", "\xED\x9F", "\xF4\x8F\xBF"}

func textCases(limits wire.Limits) (all []Case) {
	for _, s := range validTexts {
		var bytewise []byte
		for i := range len(s) {
			bits := byte(opContinue)
			if i == 0 {
				bits = opText
			}
			bytewise = append(bytewise, raw(bits, []byte{s[i]})...)
		}
		bytewise = append(bytewise, raw(fin|opContinue, nil)...)
		all = append(all,
			Case{Name: fmt.Sprintf("text/%+q", s), Send: text(s), Want: echoes(opText, []byte(s))},
			Case{Name: fmt.Sprintf("text/%+q, a byte a fragment", s), Send: bytewise, Want: echoes(opText, []byte(s))})
	}
	for _, s := range brokenTexts {
		all = append(all,
			Case{Name: fmt.Sprintf("text/broken %+q", s), Send: text("ok " + s), Close: proto.CloseInvalidData},
			Case{Name: fmt.Sprintf("text/broken %+q, before the message ends", s), Send: raw(opText, []byte("ok "+s)), Close: proto.CloseInvalidData},
			Case{Name: fmt.Sprintf("text/broken %+q, before the frame ends", s), Send: masked(fin|opText, wstest.Length(120), wstest.Mask, []byte("ok "+s)), Close: proto.CloseInvalidData},
			Case{Name: fmt.Sprintf("text/broken %+q, across fragments", s), Send: join(raw(opText, []byte(s[:1])), raw(opContinue, []byte(s[1:]+"."))), Close: proto.CloseInvalidData},
			Case{Name: fmt.Sprintf("text/broken %+q in binary is fine", s), Send: frame(opBinary, []byte(s)), Want: echoes(opBinary, []byte(s))})
	}
	for _, s := range cutTexts {
		all = append(all,
			Case{Name: fmt.Sprintf("text/cut %+q", s), Send: text(s), Close: proto.CloseInvalidData},
			Case{Name: fmt.Sprintf("text/cut %+q, at the last fragment", s), Send: join(raw(opText, []byte(s)), raw(fin|opContinue, nil)), Close: proto.CloseInvalidData})
	}
	return all
}

func closeCases(limits wire.Limits) (all []Case) {
	for _, code := range []proto.CloseCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all,
			Case{Name: fmt.Sprintf("close/%d", code), Send: frame(opClose, closeBody(code, "")), Close: code},
			Case{Name: fmt.Sprintf("close/%d with a reason", code), Send: frame(opClose, closeBody(code, "为什么")), Close: code})
	}
	for _, code := range []proto.CloseCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, Case{Name: fmt.Sprintf("close/%d may not be sent", code), Send: frame(opClose, closeBody(code, "")), Close: 1002})
	}
	for _, s := range brokenTexts[:8] {
		all = append(all, Case{Name: fmt.Sprintf("close/reason %+q", s), Send: frame(opClose, closeBody(1000, s)), Close: proto.CloseInvalidData})
	}
	return append(all,
		Case{Name: "close/empty", Send: frame(opClose, nil), Close: NoCode},
		Case{Name: "close/half a code", Send: frame(opClose, []byte{3}), Close: 1002},
		Case{Name: "close/reason of 123 bytes", Send: frame(opClose, closeBody(1000, string(filler(123)))), Close: 1000},
		Case{Name: "close/reason of 124 bytes", Send: frame(opClose, closeBody(1000, string(filler(124)))), Close: 1002},
		Case{Name: "close/after a message", Send: join(text("last"), frame(opClose, closeBody(1000, ""))), Want: echoes(opText, []byte("last")), Close: 1000},
		Case{Name: "close/what follows is ignored", Send: join(frame(opClose, closeBody(1000, "")), text("late"), frame(opPing, nil)), Close: 1000},
		Case{Name: "close/garbage that follows is ignored", Send: join(frame(opClose, closeBody(1000, "")), filler(1000)), Close: 1000},
		Case{Name: "close/twice", Send: join(frame(opClose, closeBody(1000, "")), frame(opClose, closeBody(1001, ""))), Close: 1000},
	)
}
