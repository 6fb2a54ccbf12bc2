package action

import (
	"slices"
	"strings"
	"testing"
)

func TestReadSchema(t *testing.T) {
	t.Parallel()
	found, err := readSchema(fixture(t, "webhooksserver.openapi.json"), "/webhooks/trigger_training")
	if err != nil {
		t.Fatal(err)
	}
	if want := []misnamedField{{"repo.head_sha", "repo.headSha"}}; !slices.Equal(found.misnamed, want) {
		t.Errorf("misnamed: %v", found.misnamed)
	}
	// Fields that WebhookPayload of huggingface_hub 2.4.0 drops.
	if want := []string{"updatedConfig", "updatedFiles", "updatedFilesTruncated"}; !slices.Equal(found.missing, want) {
		t.Errorf("missing: %v", found.missing)
	}
	if a := found.misnamed[0].advice(); !strings.Contains(a.Cause, "repo.head_sha, and the Hub sends repo.headSha: it is always None") || !strings.Contains(a.Fix, `(await request.json())["repo"]["headSha"]`) {
		t.Errorf("advice %+v", a)
	}
	for name, text := range map[string]string{
		"no model":          string(fixture(t, "fastapi.openapi.json")),
		"no such path":      `{"paths": {}}`,
		"a dict":            `{"paths": {"/webhook": {"post": {"requestBody": {"content": {"application/json": {"schema": {"type": "object", "additionalProperties": true}}}}}}}}`,
		"a model of itself": `{"paths": {"/webhook": {"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}}}}, "components": {"schemas": {"A": {"$ref": "#/components/schemas/A"}}}}`,
	} {
		if found, err := readSchema([]byte(text), "/webhook"); err != nil || len(found.misnamed)+len(found.missing) > 0 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	if _, err := readSchema([]byte("<html>"), "/"); err == nil {
		t.Error("HTML is read as a description")
	}
}
