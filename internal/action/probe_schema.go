package action

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// schemaFinding is what a program's OpenAPI description says of the payload that its handler reads.
type schemaFinding struct {
	misnamed []misnamedField
	missing  []string // documented fields that the model does not have, by path, in the order of their names
}

// A misnamedField is read by a name that the Hub does not send: snake_case for camelCase, mostly. The handler sees nothing there.
type misnamedField struct {
	reads, sent string // paths, such as repo.head_sha and repo.headSha
}

// schema is as much of JSON Schema as OpenAPI descriptions of payload models use.
type schema struct {
	Ref        string             `json:"$ref"`
	Properties map[string]*schema `json:"properties"`
	Items      *schema            `json:"items"`
	AnyOf      []*schema          `json:"anyOf"`
	AllOf      []*schema          `json:"allOf"`
}

// readSchema compares the model of a path's body with what the Hub documents. No answer shows how a handler reads the payload, but an
// OpenAPI description shows its model: a field that is misnamed there is always empty for the handler, though every answer is 200.
func readSchema(description []byte, path string) (schemaFinding, error) {
	var d struct {
		Paths map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct {
						Schema *schema `json:"schema"`
					} `json:"content"`
				} `json:"requestBody"`
			} `json:"post"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]*schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(description, &d); err != nil {
		return schemaFinding{}, fmt.Errorf("read /openapi.json: %w", err)
	}
	fields, err := documentedFields()
	if err != nil {
		return schemaFinding{}, err
	}
	c := comparison{named: d.Components.Schemas}
	c.compare("", d.Paths[path].Post.RequestBody.Content["application/json"].Schema, fields, 0)
	return c.found, nil
}

type comparison struct {
	named map[string]*schema
	found schemaFinding
}

// compare looks at one object of the model and what is in it. depth bounds a model that contains itself.
func (c *comparison) compare(at string, s *schema, fields map[string]any, depth int) {
	properties := c.properties(s, map[string]bool{})
	if len(properties) == 0 || depth > 8 {
		return // it takes anything
	}
	path := func(name string) string {
		if at == "" {
			return name
		}
		return at + "." + name
	}
	taken := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if _, ok := fields[name]; ok {
			taken[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		sent := name
		if !taken[name] {
			if sent = sameWords(name, fields); sent == "" || taken[sent] {
				continue // a field of its own, or an old one
			}
			taken[sent] = true
			c.found.misnamed = append(c.found.misnamed, misnamedField{reads: path(name), sent: path(sent)})
			continue
		}
		inner, ok := fields[sent].(map[string]any)
		if ok && len(inner) > 0 && sent != "updatedConfig" { // whose fields are open
			c.compare(path(name), properties[name], inner, depth+1)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !taken[name] {
			c.found.missing = append(c.found.missing, path(name))
		}
	}
}

// properties returns the fields of an object, also of an optional object and of a list's elements. tried has the names of the schemas that
// were looked at: a second look finds nothing new, and schemas that name each other would never end.
func (c *comparison) properties(s *schema, tried map[string]bool) map[string]*schema {
	if s == nil {
		return nil
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		if tried[name] {
			return nil
		}
		tried[name] = true
		return c.properties(c.named[name], tried)
	}
	if len(s.Properties) > 0 {
		return s.Properties
	}
	if s.Items != nil {
		return c.properties(s.Items, tried)
	}
	for _, one := range slices.Concat(s.AnyOf, s.AllOf) {
		if properties := c.properties(one, tried); len(properties) > 0 {
			return properties
		}
	}
	return nil
}

// sameWords returns the field that is written with the same letters, "" for none.
func sameWords(name string, fields map[string]any) string {
	bare := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if bare(field) == bare(name) {
			return field
		}
	}
	return ""
}

// advice says what the handler misses because of the misnamed field.
func (m misnamedField) advice() Advice {
	steps := strings.Split(m.sent, ".")
	for i, step := range steps {
		steps[i] = fmt.Sprintf("[%q]", step)
	}
	return Advice{
		Cause: fmt.Sprintf("the program's payload model reads %s, and the Hub sends %s: it is always None", m.reads, m.sent),
		Fix:   fmt.Sprintf("read it from the body: (await request.json())%s in FastAPI; or give the field the alias %q", strings.Join(steps, ""), m.sent[strings.LastIndexByte(m.sent, '.')+1:]),
	}
}
