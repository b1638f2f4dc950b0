package claviger

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree is a value of the OpenAPI document.
type tree map[string]any

func readDocument(t testing.TB) tree {
	t.Helper()
	var document tree
	succeeds(t, json.Unmarshal(must(os.ReadFile("../../openapi/claviger.json"))(t), &document))
	return document
}

func (d tree) at(names ...string) tree {
	for _, name := range names {
		d, _ = d[name].(map[string]any)
	}
	return d
}

func (d tree) list(name string) []any {
	found, _ := d[name].([]any)
	return found
}

// resolved follows a reference.
func (d tree) resolved(of tree) tree {
	if reference, ok := of["$ref"].(string); ok {
		return d.at(strings.Split(strings.TrimPrefix(reference, "#/"), "/")...)
	}
	return of
}

// operation is one of the document, with the call of a client that gave every argument.
type documented struct {
	tree
	document           tree
	id, method, path   string
	request            *http.Request
	body               any
	given              []string
	headers, queryOnly map[string]bool
}

// operations calls each method of a client that the document has an operation for.
func operations(t *testing.T, document tree) []*documented {
	t.Helper()
	var found []*documented
	for _, path := range slices.Sorted(maps.Keys(document.at("paths"))) {
		for method := range document.at("paths", path) {
			o := &documented{tree: document.at("paths", path, method), document: document, method: strings.ToUpper(method), path: path}
			o.id = o.tree["operationId"].(string)
			o.headers, o.queryOnly = map[string]bool{}, map[string]bool{}
			for _, one := range o.list("parameters") {
				parameter := document.resolved(one.(map[string]any))
				switch parameter["in"] {
				case "header":
					o.headers[parameter["name"].(string)] = true
				case "query":
					o.queryOnly[parameter["name"].(string)] = true
				}
			}
			found = append(found, o)
		}
	}
	return found
}

// methodName is the name of the client's method.
func methodName(id string) string {
	return strings.Replace(strings.ToUpper(id[:1])+id[1:], "Openapi", "OpenAPI", 1)
}

// call calls the method with every argument given; the network answers the document's example.
func (o *documented) call(t *testing.T, settings ConnectionSettings) {
	t.Helper()
	client := must(New("http://localhost/prefix/", WithToken(someToken), WithRetries(0)))(t)
	client.roundTripper = roundTripper(func(r *http.Request) (*http.Response, error) {
		o.request = r
		if r.Body != nil {
			succeeds(t, json.Unmarshal(must(io.ReadAll(r.Body))(t), &o.body))
		}
		return o.example(t), nil
	})
	method := reflect.ValueOf(client).MethodByName(methodName(o.id))
	if !method.IsValid() {
		t.Fatalf("there is no method %s", methodName(o.id))
	}
	arguments := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < method.Type().NumIn(); i++ {
		kind := method.Type().In(i)
		switch {
		case kind == reflect.TypeFor[ConnectionSettings]():
			arguments = append(arguments, reflect.ValueOf(settings))
		case kind.Kind() == reflect.String:
			o.given = append(o.given, fmt.Sprintf("given-%d", len(o.given)))
			arguments = append(arguments, reflect.ValueOf(o.given[len(o.given)-1]).Convert(kind))
		default:
			arguments = append(arguments, filled(kind))
		}
	}
	results := method.Call(arguments)
	if results[0].Kind() == reflect.Func {
		// A list: its first page is the example.
		results[0].Call([]reflect.Value{reflect.MakeFunc(results[0].Type().In(0), func(item []reflect.Value) []reflect.Value {
			results = item
			return []reflect.Value{reflect.ValueOf(false)}
		})})
	}
	if err, _ := results[len(results)-1].Interface().(error); err != nil {
		t.Fatal(err)
	}
	if len(results) > 1 {
		knowsAll(t, results[0])
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// example is the document's example of a successful response.
func (o *documented) example(t *testing.T) *http.Response {
	for status, response := range o.at("responses") {
		if !strings.HasPrefix(status, "2") || status == "202" {
			continue
		}
		code := map[string]int{"200": 200, "201": 201, "204": 204}[status]
		for kind, media := range tree(response.(map[string]any)).at("content") {
			example := tree(media.(map[string]any))["example"]
			if example == nil {
				example = o.document.resolved(tree(media.(map[string]any)).at("schema"))["example"]
			}
			if example == nil {
				example = map[string]any{}
			}
			if text, ok := example.(string); ok {
				return must(gives(code, kind, text)(nil))(t)
			}
			return must(gives(code, kind, string(marshal(example)))(nil))(t)
		}
		return must(gives(code, "", "")(nil))(t)
	}
	t.Fatalf("%s: no success", o.id)
	return nil
}

// filled makes a value of which every field is given.
func filled(kind reflect.Type) reflect.Value {
	switch kind {
	case reflect.TypeFor[Secret]():
		return reflect.ValueOf(NewSecret([]byte("x")))
	case reflect.TypeFor[time.Duration]():
		return reflect.ValueOf(time.Minute)
	case reflect.TypeFor[Change]():
		return reflect.ValueOf(SetTo("x"))
	case reflect.TypeFor[Extra]():
		return reflect.ValueOf(Extra(nil))
	}
	made := reflect.New(kind).Elem()
	switch kind.Kind() {
	case reflect.Struct:
		for i := range kind.NumField() {
			made.Field(i).Set(filled(kind.Field(i).Type))
		}
	case reflect.Pointer:
		made.Set(reflect.New(kind.Elem()))
		made.Elem().Set(filled(kind.Elem()))
	case reflect.Slice:
		made.Set(reflect.Append(made, filled(kind.Elem())))
	case reflect.Map:
		made.Set(reflect.MakeMap(kind))
		made.SetMapIndex(reflect.ValueOf("a"), filled(kind.Elem()))
	case reflect.Interface:
		made.Set(reflect.ValueOf("x"))
	case reflect.String:
		made.SetString("x")
	case reflect.Bool:
		made.SetBool(true)
	case reflect.Int:
		made.SetInt(1)
	default:
		panic(kind)
	}
	return made
}

// knowsAll fails the test if a member of the document's example is unknown to the model.
func knowsAll(t *testing.T, value reflect.Value) {
	t.Helper()
	if extra, ok := value.Interface().(Extra); ok && len(extra) > 0 {
		t.Fatalf("members that are not in the model: %v", slices.Collect(maps.Keys(extra)))
	}
	switch value.Kind() {
	case reflect.Pointer:
		if !value.IsNil() {
			knowsAll(t, value.Elem())
		}
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				knowsAll(t, value.Field(i))
			}
		}
	case reflect.Slice:
		for i := range value.Len() {
			knowsAll(t, value.Index(i))
		}
	}
}

// conforms fails the test if the value has not all members of the schema, or others.
func conforms(t *testing.T, document, schema tree, value any, at string) {
	t.Helper()
	schema = document.resolved(schema)
	switch of := value.(type) {
	case map[string]any:
		if schema["properties"] == nil {
			return
		}
		properties := schema.at("properties")
		equal(t, slices.Sorted(maps.Keys(of)), slices.Sorted(maps.Keys(properties)))
		for name, member := range of {
			conforms(t, document, properties.at(name), member, at+"/"+name)
		}
	case []any:
		for i, item := range of {
			conforms(t, document, schema.at("items"), item, fmt.Sprintf("%s/%d", at, i))
		}
	default:
		kind := map[string]string{"string": "string", "float64": "integer", "bool": "boolean"}[fmt.Sprintf("%T", value)]
		if types := fmt.Sprint(schema["type"]); !strings.Contains(types, kind) {
			t.Fatalf("%s is %v, not of the type %s", at, value, types)
		}
	}
}

func TestEachOperationIsAMethod(t *testing.T) {
	own := []string{"Close", "GoString", "String", "With"}
	var methods, expected []string
	for i := range reflect.TypeFor[*Client]().NumMethod() {
		methods = append(methods, reflect.TypeFor[*Client]().Method(i).Name)
	}
	for _, o := range operations(t, readDocument(t)) {
		expected = append(expected, methodName(o.id))
	}
	expected = append(expected, own...)
	slices.Sort(expected)
	equal(t, methods, expected)
}

func TestCallIsWhatTheDocumentSays(t *testing.T) {
	document := readDocument(t)
	for _, o := range operations(t, document) {
		t.Run(o.id, func(t *testing.T) {
			o.call(t, LocalSettings{})
			equal(t, o.request.Method, o.method)

			// The names in the path come first, then the etag, then what a body always has.
			path, given := "/prefix"+o.path, o.given
			for strings.Contains(path, "{") {
				begin, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
				path, given = path[:begin]+given[0]+path[end+1:], given[1:]
			}
			equal(t, o.request.URL.EscapedPath(), path)

			sent := map[string]bool{}
			for name := range o.request.Header {
				sent[name] = true
			}
			if o.headers["If-Match"] {
				equal(t, o.request.Header.Get("If-Match"), given[0])
				given = given[1:]
			}
			for _, name := range []string{"If-Match", "Idempotency-Key"} {
				equal(t, sent[name], o.headers[name])
			}
			delete(o.queryOnly, "page_token")
			equal(t, slices.Sorted(maps.Keys(o.request.URL.Query())), slices.Sorted(maps.Keys(o.queryOnly)))
			security, open := o.tree["security"].([]any)
			equal(t, sent["Authorization"], !open || len(security) > 0)

			schema := document.resolved(o.at("requestBody", "content", "application/json", "schema"))
			if schema == nil {
				equal(t, o.body, nil)
				return
			}
			if choices := schema.list("oneOf"); choices != nil {
				schema = document.resolved(choices[0].(map[string]any))
			}
			conforms(t, document, schema, o.body, "")
			for _, name := range schema.list("required") {
				if value, ok := o.body.(map[string]any)[name.(string)].(string); ok && len(given) > 0 {
					equal(t, value, given[0])
					given = given[1:]
				}
			}
			equal(t, len(given), 0)
		})
	}
}

func TestSettingsAreThoseOfTheDocument(t *testing.T) {
	document := readDocument(t)
	kinds := []reflect.Type{
		reflect.TypeFor[LocalSettings](), reflect.TypeFor[AWSSettings](), reflect.TypeFor[AzureSettings](), reflect.TypeFor[GCPSettings](),
		reflect.TypeFor[KMIPSettings](), reflect.TypeFor[VaultSettings](), reflect.TypeFor[XKSSettings](),
	}
	create := document.at("components", "schemas", "CreateConnection", "discriminator", "mapping")
	equal(t, len(kinds), len(create))
	for _, kind := range kinds {
		for _, o := range operations(t, document) {
			if o.id != "createConnection" {
				continue
			}
			o.call(t, filled(kind).Interface().(ConnectionSettings))
			provider := o.body.(map[string]any)["provider"].(string)
			conforms(t, document, document.resolved(tree{"$ref": create[provider].(string)}), o.body, provider)
		}
	}
}

func TestSettingsOfAProviderThatIsNotKnown(t *testing.T) {
	var sent string
	client := must(New("http://localhost", WithToken(someToken), WithRetries(0)))(t)
	client.roundTripper = roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = string(must(io.ReadAll(r.Body))(t))
		return refusal(400, "invalid_request", false)(r)
	})
	create := func(settings ConnectionSettings) error {
		_, err := client.CreateConnection(context.Background(), "c", settings, CreateConnectionOptions{})
		return err
	}
	failed(t, create(OtherSettings{Provider: "moon", Settings: map[string]any{
		"pin": NewSecret([]byte("1234")), "slot": 1, "deep": map[string]any{"list": []any{NewSecret([]byte("<")), true, nil}}, "rate": []int{2},
	}}), ErrInvalidRequest)
	equal(t, sent, `{"name":"c","provider":"moon","settings":{"deep":{"list":["\u003c",true,null]},"pin":"1234","rate":[2],"slot":1}}`)
	failed(t, create(OtherSettings{Provider: "moon"}), ErrInvalidRequest)
	equal(t, sent, `{"name":"c","provider":"moon","settings":{}}`)
	failed(t, create(&LocalSettings{}), ErrInvalidRequest)
	equal(t, sent, `{"name":"c","provider":"local","settings":{}}`)
	for _, settings := range []ConnectionSettings{nil, OtherSettings{"moon", map[string]any{"a": make(chan int)}}, OtherSettings{"moon", map[string]any{"\xff": 1}}} {
		isInvalid(t, create(settings))
	}
}

func TestEachCodeHasItsClass(t *testing.T) {
	var of []string
	for _, word := range readDocument(t).at("components", "schemas", "ErrorCode").list("x-extensible-enum") {
		code := ErrorCode(word.(string))
		of = append(of, string(code))
		equal(t, code.Known() && code.Status() >= 400, true)
		equal(t, classes[code] == nil, code == CodeInternal)
	}
	equal(t, len(codes), len(of))
	equal(t, len(classes), len(codes)-1+len(ownCodes)-1)
	equal(t, CodeRateLimited.Retryable() && !CodeNotFound.Retryable() && !ErrorCode("later").Known(), true)
	equal(t, CodeTokenUnusable.Known(), true)
}

func TestProblemHasTheDocumentedMembers(t *testing.T) {
	problem := map[string]any{}
	for name := range readDocument(t).at("components", "schemas", "Problem", "properties") {
		problem[name] = name
	}
	problem["status"], problem["retryable"], problem["errors"] = 400, true, []any{map[string]any{"pointer": "p", "expected": "e"}}
	made := reflect.ValueOf(*fromProblem(marshal(problem)))
	equal(t, made.FieldByName("Extra").Len(), 0)
	for _, field := range reflect.VisibleFields(made.Type()) {
		// The headers have the others.
		if !slices.Contains([]string{"AuditIndex", "RetryAfter", "MaybeExecuted", "Extra", "cause"}, field.Name) && made.FieldByIndex(field.Index).IsZero() {
			t.Errorf("%s is not there", field.Name)
		}
	}
}

func TestListsAreIteratorsOfTheStandardLibrary(t *testing.T) {
	var _ func(context.Context, ListKeysOptions) iter.Seq2[*Key, error] = new(Client).ListKeys
}
