package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// optionsNames are the names that do not follow from the operation's.
var optionsNames = map[string]string{
	"generateDataKey": "DataKeyOptions",
	// The same call with another path.
	"unwrapWithKey": "UnwrapOptions",
	"inspect":       "UnwrapOptions",
	// They have the same parameter.
	"listConnections": "ListOptions",
	"listKeyVersions": "ListOptions",
	"listPrincipals":  "ListOptions",
	"listTenants":     "ListOptions",
	"listTokens":      "ListOptions",
}

// assignRequests finds what only requests have: the settings of connections, by provider, and words.
func (g *generator) assignRequests() {
	providers := g.Components.Schemas["CreateConnection"].Discriminator.Mapping
	uses := map[string][]string{}
	for provider, reference := range providers {
		used := map[string]string{}
		g.assign(used, g.Components.Schemas[last(reference)].references(), provider)
		for name := range used {
			uses[name] = append(uses[name], provider)
		}
	}
	for name, found := range uses {
		g.requests[name] = "settings_" + found[0]
		if len(found) > 1 {
			g.requests[name] = "settings"
		}
	}
	g.assign(g.requests, g.Components.Schemas["UpdateConnection"].references(), "settings")
	for _, o := range g.operations() {
		for _, one := range g.document.parameters(o) {
			g.assign(g.requests, one.Schema.references(), "requests")
		}
		if _, of := g.requestBody(o); of != nil {
			g.assign(g.requests, of.references(), "requests")
		}
	}
}

// requestBody returns the name and the schema of an operation's body.
func (g *generator) requestBody(o *operation) (string, *schema) {
	if o.RequestBody == nil {
		return "", nil
	}
	name, of := g.named(o.RequestBody.json())
	if len(of.OneOf) > 0 {
		// One for each provider. What is not settings is the same in all.
		name, of = g.named(of.OneOf[0])
	}
	return name, of
}

// options writes the struct with what may be left out of an operation, under its name. It is empty if there is nothing.
func (g *generator) options(o *operation) (string, string) {
	name := optionsNames[o.ID]
	if name == "" {
		name = exported(o.ID) + "Options"
	}
	var fields []string
	for _, one := range g.document.parameters(o) {
		if one.In == "query" && one.Name != "page_token" {
			described := *one.Schema
			described.Description = one.Description
			fields = append(fields, g.field(one.Name, &described, false))
		}
	}
	if _, of := g.requestBody(o); of != nil && !g.isList(of) {
		for _, member := range slices.Sorted(maps.Keys(of.Properties)) {
			if !slices.Contains(of.Required, member) {
				fields = append(fields, g.field(member, of.Properties[member], false))
			}
		}
	}
	if o.Idempotency == "key" {
		fields = append(fields, "\t// The client makes a key for each call. Give one to repeat a call that another process began.\n"+
			"\tIdempotencyKey string `json:\"-\"`\n")
	}
	if fields == nil {
		return name, ""
	}
	about := fmt.Sprintf("// %s is what may be left out of [Client.%s].\n", name, exported(o.ID))
	if name == "ListOptions" {
		about = "// ListOptions is what may be left out of a list.\n"
	}
	return name, fmt.Sprintf("%stype %s struct {\n%s}\n", about, name, strings.Join(fields, "\n"))
}

// requestTypes writes the options of all operations and the items of batches.
func (g *generator) requestTypes() string {
	made := map[string]string{}
	for _, o := range g.operations() {
		name, text := g.options(o)
		if text == "" || (made[name] != "" && optionsNames[o.ID] != "") {
			continue
		}
		made[name] = text
	}
	for name, file := range g.requests {
		if file == "requests" {
			made[exported(name)] = g.schemaType(name)
		}
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(made)) {
		texts = append(texts, made[name])
	}
	return strings.Join(texts, "\n")
}

// schemaType writes the type of a schema.
func (g *generator) schemaType(name string) string {
	if isStruct(g.Components.Schemas[name]) {
		return g.model(name)
	}
	return g.word(name)
}

// settingsTypes writes the settings of connections that belong into a file.
func (g *generator) settingsTypes(file string) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(g.requests)) {
		if g.requests[name] == file {
			texts = append(texts, g.schemaType(name))
		}
	}
	for provider, reference := range g.Components.Schemas["CreateConnection"].Discriminator.Mapping {
		if "settings_"+provider != file {
			continue
		}
		settings := exported(last(g.Components.Schemas[last(reference)].Properties["settings"].Ref))
		texts = append(texts, fmt.Sprintf("func (%s) provider() ProviderName { return %s }\n", settings, "ProviderName"+exported(provider)))
	}
	return strings.Join(texts, "\n")
}
