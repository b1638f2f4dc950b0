package claviger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mismatch is a value that is not of the documented type. It contains no value.
type mismatch struct{ pointer, expected string }

func (m *mismatch) Error() string {
	pointer := m.pointer
	if pointer == "" {
		pointer = "/"
	}
	return fmt.Sprintf("%s is not %s", pointer, m.expected)
}

// decode makes a value of JSON that is known to be valid. It is strict about the types of members, and knows nothing of
// HTTP. What it makes shares no memory with the text, which has secrets and is overwritten later.
//
// encoding/json would not miss an absent member, would take another capitalization for the same name, and would leave
// copies of secrets in memory.
func decode(text []byte, into any) error {
	return decodeValue(text[skipSpace(text, 0):], reflect.ValueOf(into).Elem(), "", false)
}

func decodeValue(text []byte, into reflect.Value, at string, asText bool) error {
	switch target := into.Addr().Interface().(type) {
	case *Secret:
		return decodeSecret(text, target, at, asText)
	case *[]byte:
		return decodeBytes(text, target, at)
	case *time.Time:
		return decodeTime(text, target, at)
	case *time.Duration:
		return decodeDuration(text, target, at)
	case **Error:
		if text[0] != '{' {
			return &mismatch{at, "an object"}
		}
		*target = fromProblem(text)
		return nil
	}
	switch into.Kind() {
	case reflect.Struct:
		return decodeStruct(text, into, at)
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return decodeValue(text, into.Elem(), at, asText)
	case reflect.Slice:
		return decodeSlice(text, into, at)
	case reflect.Map:
		return decodeMap(text, into, at)
	case reflect.String:
		value, ok := unquoted(text)
		if !ok {
			return &mismatch{at, "text"}
		}
		into.SetString(value)
		return nil
	case reflect.Bool:
		if text[0] != 't' && text[0] != 'f' {
			return &mismatch{at, "true or false"}
		}
		into.SetBool(text[0] == 't')
		return nil
	case reflect.Int, reflect.Int64:
		value, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || into.OverflowInt(value) {
			return &mismatch{at, "an integer"}
		}
		into.SetInt(value)
		return nil
	case reflect.Interface:
		// Settings of connections: any JSON.
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			return &mismatch{at, "JSON"}
		}
		into.Set(reflect.ValueOf(value))
		return nil
	}
	panic("claviger: a model has a field of the type " + into.Type().String())
}

func decodeStruct(text []byte, into reflect.Value, at string) error {
	if text[0] != '{' {
		return &mismatch{at, "an object"}
	}
	members := make(map[string][]byte)
	for name, value := range eachMember(text) {
		members[name] = value
	}
	problem, failed := members["error"]
	failed = failed && problem[0] != 'n'
	known := fieldsOf(into.Type())
	for _, field := range known.list {
		value, there := members[field.name]
		delete(members, field.name)
		null := there && value[0] == 'n'
		switch {
		case there && !null:
			if err := decodeValue(value, into.Field(field.index), at+"/"+field.name, field.text); err != nil {
				return err
			}
		case field.optional || (null && field.nullable):
		case known.isResult && failed:
			// A batch's item with an error has no result.
		default:
			return &mismatch{at + "/" + field.name, "there"}
		}
	}
	if known.extra >= 0 && len(members) > 0 {
		extra := make(Extra, len(members))
		for name, value := range members {
			extra[name] = slices.Clone(value)
		}
		into.Field(known.extra).Set(reflect.ValueOf(extra))
	}
	return nil
}

func decodeSlice(text []byte, into reflect.Value, at string) error {
	if text[0] != '[' {
		return &mismatch{at, "an array"}
	}
	made := reflect.MakeSlice(into.Type(), 0, 0)
	for value := range eachItem(text) {
		item := reflect.New(into.Type().Elem()).Elem()
		if err := decodeValue(value, item, fmt.Sprintf("%s/%d", at, made.Len()), false); err != nil {
			return err
		}
		made = reflect.Append(made, item)
	}
	into.Set(made)
	return nil
}

func decodeMap(text []byte, into reflect.Value, at string) error {
	if text[0] != '{' {
		return &mismatch{at, "an object"}
	}
	made := reflect.MakeMap(into.Type())
	for name, value := range eachMember(text) {
		item := reflect.New(into.Type().Elem()).Elem()
		if value[0] != 'n' || item.Kind() != reflect.Interface {
			if err := decodeValue(value, item, at+"/"+name, false); err != nil {
				return err
			}
		}
		made.SetMapIndex(reflect.ValueOf(name), item)
	}
	into.Set(made)
	return nil
}

func decodeSecret(text []byte, into *Secret, at string, asText bool) error {
	if asText {
		value, ok := unquoted(text)
		if !ok {
			return &mismatch{at, "text"}
		}
		*into = NewSecret([]byte(value))
		return nil
	}
	var content []byte
	if err := decodeBytes(text, &content, at); err != nil {
		return err
	}
	*into = ownSecret(content)
	return nil
}

func decodeBytes(text []byte, into *[]byte, at string) error {
	if text[0] != '"' {
		return &mismatch{at, "text"}
	}
	inner := text[1 : len(text)-1]
	if slices.Contains(inner, '\\') {
		// Such as \/, which need not be escaped but may.
		value, _ := unquoted(text)
		inner = []byte(value)
	}
	content := make([]byte, base64.StdEncoding.DecodedLen(len(inner)))
	length, err := base64.StdEncoding.Decode(content, inner)
	if err != nil || bytes.ContainsAny(inner, "\r\n") {
		clear(content)
		return &mismatch{at, "standard base64"}
	}
	*into = content[:length]
	return nil
}

func decodeTime(text []byte, into *time.Time, at string) error {
	value, ok := unquoted(text)
	made, err := time.Parse(time.RFC3339Nano, value)
	if _, offset := made.Zone(); !ok || err != nil || offset != 0 {
		return &mismatch{at, "a time in UTC"}
	}
	*into = made.UTC()
	return nil
}

var units = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

func decodeDuration(text []byte, into *time.Duration, at string) error {
	value, _ := unquoted(text)
	number := strings.TrimRight(value, "mshd")
	count, err := strconv.ParseUint(number, 10, 63)
	unit, ok := units[value[len(number):]]
	if err != nil || !ok {
		return &mismatch{at, "a duration"}
	}
	if count > uint64(math.MaxInt64/unit) {
		// 292 years, which is for ever.
		*into = math.MaxInt64
		return nil
	}
	*into = time.Duration(count) * unit
	return nil
}

// unquoted returns the text of a JSON string.
func unquoted(text []byte) (string, bool) {
	if text[0] != '"' {
		return "", false
	}
	var value string
	err := json.Unmarshal(text, &value)
	return value, err == nil
}

// modelField is a field of a model, and what its tags say.
type modelField struct {
	name  string
	index int
	// It may be absent, or null. If it is zero it is not sent.
	optional bool
	// It is always there, and may be null.
	nullable bool
	// It is a secret that is text, and not bytes in base64.
	text bool
}

type modelFields struct {
	list []modelField
	// The index of the field for unknown members; -1 if there is none.
	extra int
	// Whether it is the result of a batch's item, which is another one if that failed.
	isResult bool
}

var fieldsCache sync.Map

// fieldsOf reads the tags of a struct.
func fieldsOf(of reflect.Type) *modelFields {
	if found, ok := fieldsCache.Load(of); ok {
		return found.(*modelFields)
	}
	made := &modelFields{extra: -1}
	for index := range of.NumField() {
		field := of.Field(index)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		says := strings.Split(field.Tag.Get("api"), ",")
		switch {
		case field.Type == reflect.TypeFor[Extra]():
			made.extra = index
		case name != "-" && name != "":
			made.list = append(made.list, modelField{name, index, options == "omitzero", slices.Contains(says, "nullable"), slices.Contains(says, "text")})
		}
		made.isResult = made.isResult || (name == "error" && field.Type == reflect.TypeFor[*Error]())
	}
	found, _ := fieldsCache.LoadOrStore(of, made)
	return found.(*modelFields)
}
