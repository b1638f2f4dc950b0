package claviger

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// required are the members that a request always has, with their names.
type required []struct {
	name  string
	value any
}

// encodeObject makes a JSON object of members and of a struct with optional ones. Secrets are exposed here, and only
// here.
func encodeObject(members required, options any) ([]byte, error) {
	text := []byte{'{'}
	for _, member := range members {
		var err error
		if text, err = appendMember(text, member.name, reflect.ValueOf(member.value), false); err != nil {
			return nil, err
		}
	}
	if options != nil {
		var err error
		if text, err = appendFields(text, reflect.ValueOf(options)); err != nil {
			return nil, err
		}
	}
	return append(text, '}'), nil
}

func appendMember(text []byte, name string, value reflect.Value, asText bool) ([]byte, error) {
	if text[len(text)-1] != '{' {
		text = append(text, ',')
	}
	text, err := appendString(text, name)
	if err != nil {
		return nil, err
	}
	return appendValue(append(text, ':'), value, asText)
}

func appendFields(text []byte, of reflect.Value) ([]byte, error) {
	known := fieldsOf(of.Type())
	for _, field := range known.list {
		value := of.Field(field.index)
		if field.optional && isZero(value) {
			continue
		}
		var err error
		if text, err = appendMember(text, field.name, value, field.text); err != nil {
			return nil, err
		}
	}
	if known.extra >= 0 {
		extra := of.Field(known.extra).Interface().(Extra)
		for _, name := range slices.Sorted(maps.Keys(extra)) {
			var err error
			if text, err = appendMember(text, name, reflect.ValueOf(extra[name]), false); err != nil {
				return nil, err
			}
		}
	}
	return text, nil
}

func isZero(value reflect.Value) bool {
	if of, ok := value.Interface().(interface{ IsZero() bool }); ok {
		return of.IsZero()
	}
	return value.IsZero()
}

func appendValue(text []byte, value reflect.Value, asText bool) ([]byte, error) {
	switch {
	case !value.IsValid():
		return append(text, "null"...), nil
	case value.Kind() == reflect.Interface:
		// In free JSON, as in the secrets of a connection, secrets are text.
		return appendValue(text, value.Elem(), true)
	}
	switch of := value.Interface().(type) {
	case Secret:
		if asText {
			return appendString(text, string(of.Expose()))
		}
		return append(base64.StdEncoding.AppendEncode(append(text, '"'), of.Expose()), '"'), nil
	case time.Duration:
		if of < 0 {
			return nil, invalid("a duration is not negative")
		}
		return fmt.Appendf(text, `"%dms"`, of.Milliseconds()), nil
	case Change:
		if of.value == nil {
			return append(text, "null"...), nil
		}
		return appendString(text, *of.value)
	case json.RawMessage:
		return append(text, of...), nil
	}
	switch value.Kind() {
	case reflect.Pointer:
		return appendValue(text, value.Elem(), asText)
	case reflect.Struct:
		text, err := appendFields(append(text, '{'), value)
		return append(text, '}'), err
	case reflect.Map:
		return appendMap(append(text, '{'), value, asText)
	case reflect.Slice:
		text = append(text, '[')
		for i := range value.Len() {
			if i > 0 {
				text = append(text, ',')
			}
			var err error
			if text, err = appendValue(text, value.Index(i), asText); err != nil {
				return nil, err
			}
		}
		return append(text, ']'), nil
	case reflect.String:
		return appendString(text, value.String())
	case reflect.Bool:
		return strconv.AppendBool(text, value.Bool()), nil
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(text, value.Int(), 10), nil
	}
	return nil, invalid("no JSON is made of the type %s", value.Type())
}

func appendMap(text []byte, of reflect.Value, asText bool) ([]byte, error) {
	keys := slices.SortedFunc(slices.Values(of.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		var err error
		if text, err = appendMember(text, key.String(), of.MapIndex(key), asText); err != nil {
			return nil, err
		}
	}
	return append(text, '}'), nil
}

func appendString(text []byte, value string) ([]byte, error) {
	if !utf8.ValidString(value) {
		// It would become another text, such as another context.
		return nil, invalid("a text is not UTF-8")
	}
	quoted, err := json.Marshal(value)
	return append(text, quoted...), err
}

// encodeQuery makes the query of a struct with optional parameters.
func encodeQuery(options any) url.Values {
	query := url.Values{}
	of := reflect.ValueOf(options)
	for _, field := range fieldsOf(of.Type()).list {
		if value := of.Field(field.index); !value.IsZero() {
			query.Set(field.name, fmt.Sprint(value.Interface()))
		}
	}
	return query
}
