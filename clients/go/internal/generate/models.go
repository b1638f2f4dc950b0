package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// byHand are the schemas for which the client has a type of Go, or one that is written by hand.
var byHand = map[string]string{
	"ContextPairs": "map[string]string",
	"DurationText": "time.Duration",
	"ErrorCode":    "ErrorCode",
	"LabelMap":     "map[string]string",
	"Name":         "string",
	"Problem":      "*Error",
	"ProblemPlace": "Place",
	"Timestamp":    "time.Time",
}

// generator makes the files of the client.
type generator struct {
	*document
	// What is in a response: the file of each schema.
	files map[string]string
	// The schemas that an operation returns itself.
	roots []string
	// What only requests have: the file of each schema.
	requests map[string]string
}

func newGenerator(d *document) *generator {
	g := &generator{document: d, files: map[string]string{}, requests: map[string]string{}}
	for _, o := range d.operations() {
		for _, status := range []string{"200", "201", "202", "503"} {
			if returned := o.Responses[status].json(); returned != nil && returned.Ref != "" {
				if !g.isList(g.resolved(returned)) {
					g.roots = append(g.roots, last(returned.Ref))
				}
				g.assign(g.files, returned.references(), strings.ReplaceAll(o.Tags[0], " ", "_"))
			}
		}
	}
	g.assignRequests()
	return g
}

// assign gives each schema that has no file yet, and what it contains, a file.
func (g *generator) assign(files map[string]string, names []string, file string) {
	for _, name := range names {
		of := g.Components.Schemas[name]
		if _, done := g.files[name]; done || byHand[name] != "" || files[name] != "" {
			continue
		}
		if !g.isList(of) && (isStruct(of) || of.words() != nil) {
			files[name] = file
		}
		g.assign(files, of.references(), file)
	}
}

// isList reports whether the schema is a page, or the results of a batch. Callers get their items only.
func (g *generator) isList(of *schema) bool {
	items := of.Properties["items"]
	return items != nil && items.Type.is("array") && (len(of.Properties) == 1 || of.Properties["next_page_token"] != nil)
}

func isStruct(of *schema) bool {
	return of.Type.is("object") && of.Additional == nil && of.Properties != nil || closed(of)
}

// closed reports whether the schema is an object that takes no other members, as those of requests do.
func closed(of *schema) bool {
	return of.Type.is("object") && string(of.Additional) == "false"
}

// fieldType returns the Go type of a member, and what its tag `api` says.
func (g *generator) fieldType(of *schema, required bool) (string, []string) {
	var options []string
	if len(of.OneOf) > 0 || (len(of.Type) > 1 && of.Type.is("null")) {
		options = append(options, "nullable")
	}
	inner, pointer := of, !required || options != nil
	for _, one := range of.OneOf {
		if !one.Type.is("null") {
			inner = one
		}
	}
	name, target := g.named(inner)
	switch {
	case byHand[name] != "":
		return byHand[name], options
	case target.words() != nil:
		return exported(name), options
	case isStruct(target) && pointer:
		return "*" + exported(name), options
	case isStruct(target):
		return exported(name), options
	case of.NullRemoves:
		return "Change", nil
	case target.Type.is("array"):
		item, _ := g.fieldType(target.Items, true)
		return "[]" + item, options
	case target.Type.is("object"):
		if strings.HasPrefix(string(target.Additional), "{") {
			return "map[string]string", options
		}
		return "map[string]any", options
	case target.Type.is("boolean") && !required && !strings.Contains(of.Description, "Default: false."):
		// Left out it is neither.
		return "*bool", options
	case target.Type.is("boolean"):
		return "bool", options
	case target.Type.is("integer") && target.Format == "int64":
		return "int64", options
	case target.Type.is("integer"):
		return "int", options
	case target.Secret && target.Format == "byte":
		return "Secret", options
	case target.Secret:
		return "Secret", append(options, "text")
	case target.Format == "byte":
		return "[]byte", options
	case target.Format == "date-time":
		return "time.Time", options
	case target.Type.is("string"):
		return "string", options
	}
	panic(fmt.Sprintf("a type that the generator does not know: %+v", of))
}

// field writes a field of a struct. Of an optional one the zero value is left out.
func (g *generator) field(name string, of *schema, required bool) string {
	kind, options := g.fieldType(of, required)
	tag := name
	if !required {
		tag += ",omitzero"
	}
	text := fmt.Sprintf("\t%s %s `json:\"%s\"", exported(name), kind, tag)
	if options != nil {
		text += fmt.Sprintf(" api:\"%s\"", strings.Join(options, ","))
	}
	return comment("\t", g.describe(of)) + text + "`\n"
}

// model writes the struct of a schema.
func (g *generator) model(name string) string {
	of := g.Components.Schemas[name]
	text := new(strings.Builder)
	text.WriteString(comment("", titled(exported(name), of.Description)))
	fmt.Fprintf(text, "type %s struct {\n", exported(name))
	first := slices.Concat(of.Required, of.WithoutError)
	for i, member := range of.members() {
		if i > 0 {
			text.WriteString("\n")
		}
		text.WriteString(g.field(member, of.Properties[member], slices.Contains(first, member)))
	}
	if g.files[name] != "" {
		text.WriteString("\n\t// Members that this release of the client does not know.\n\tExtra Extra `json:\"-\"`\n")
	}
	if slices.Contains(g.roots, name) {
		text.WriteString("\n\t// The request and its record.\n\tMeta Meta `json:\"-\"`\n")
	}
	text.WriteString("}\n")
	return text.String()
}

var meaning = regexp.MustCompile("^- `([^`]+)`: (.*)$")

// word writes the type of a list of words, with a constant for each.
func (g *generator) word(name string) string {
	of := g.Components.Schemas[name]
	kind := exported(name)
	about, list, _ := strings.Cut(of.Description, "\n\n")
	meanings := map[string]string{}
	for _, item := range strings.Split(strings.ReplaceAll(list, "\n  ", " "), "\n") {
		if found := meaning.FindStringSubmatch(item); found != nil {
			meanings[found[1]] = found[2]
		}
	}
	text := new(strings.Builder)
	fmt.Fprintf(text, "%stype %s string\n\n// The words of %s.\nconst (\n", comment("", titled(kind, about)), kind, kind)
	var constants []string
	for _, word := range of.words() {
		constant := kind + exported(word)
		constants = append(constants, constant)
		fmt.Fprintf(text, "%s\t%s %s = %q\n", comment("\t", meanings[word]), constant, kind, word)
	}
	fmt.Fprintf(text, ")\n\n// Known reports whether this release of the client knows the word.\nfunc (w %s) Known() bool {\n", kind)
	fmt.Fprintf(text, "\tswitch w {\n%s:\n\t\treturn true\n\t}\n\treturn false\n}\n", wrapped("\tcase", "\t\t", constants, ","))
	return text.String()
}

// describe returns the description of a member.
func (g *generator) describe(of *schema) string {
	text := of.Description
	for _, one := range of.OneOf {
		if text == "" {
			text = one.Description
		}
	}
	if g.resolved(of).Format == "byte" {
		// The models have bytes.
		text = regexp.MustCompile(`,? (in )?standard base64\b( with padding)?([.,;])`).ReplaceAllString(text, "$3")
	}
	return text
}

const width = 110

// titled begins a description with the name of what it describes.
func titled(name, text string) string {
	if text == "" {
		return name + " is of the API."
	}
	if first := strings.Fields(text)[0]; spellings[strings.ToLower(first)] == "" && (len(first) == 1 || first[1:] == strings.ToLower(first[1:])) {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	return name + ": " + text
}

// comment wraps a text, and keeps its paragraphs.
func comment(indent, text string) string {
	if text == "" {
		return ""
	}
	made := new(strings.Builder)
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			made.WriteString(indent + "//\n")
		}
		made.WriteString(wrapped(indent+"//", indent+"//", strings.Fields(paragraph), "") + "\n")
	}
	return made.String()
}

// wrapped breaks a list of words into lines, the first of which begins with `first`.
func wrapped(first, indent string, words []string, separator string) string {
	made, line := new(strings.Builder), first
	for i, word := range words {
		if i < len(words)-1 {
			word += separator
		}
		if len(line)+1+len(word) > width && line != indent {
			made.WriteString(line + "\n")
			line = indent
		}
		line += " " + word
	}
	return made.String() + line
}
