from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.gotemplate.render import Fields, render

DATA = {
    "Name": "app",
    "Size": 7,
    "Manifest": {
        "digest": "sha256:1",
        "manifests": [
            {"digest": "sha256:2", "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": "sha256:3", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        ],
    },
    "Image": {"rootfs": {"diff_ids": ["a", "b"]}, "os.version": "10"},
    "Labels": {"b": "2", "a": "1", "with.dot": "3"},
    "None": [],
}


# Checked with Go 1.26: its text/template gives the same over structs with these fields.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Name}}", "app"),
        ("{{ .Manifest.Digest }}", "sha256:1"),
        ("{{.Image.RootFS.DiffIDs}} {{.Image.OSVersion}}", "[a b] 10"),
        ("{{range .Manifest.Manifests}}{{.Platform.Architecture}};{{end}}", "amd64;arm;"),
        ("{{range $i, $m := .Manifest.Manifests}}{{$i}}={{$m.Digest}} {{end}}", "0=sha256:2 1=sha256:3 "),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}", "a=1,b=2,with.dot=3,"),
        ('{{index .Labels "with.dot"}}', "3"),
        ("{{(index .Manifest.Manifests 1).Platform.Variant}}", "v7"),
        ("{{if .None}}a{{else if .Size}}b{{else}}c{{end}}", "b"),
        ("{{if and .Name (not .None)}}yes{{end}}", "yes"),
        ("{{with .Manifest}}{{.Digest}} {{$.Name}}{{end}}", "sha256:1 app"),
        ("{{$x := .Name}}{{range .Manifest.Manifests}}{{$x = .Digest}}{{end}}{{$x}}", "sha256:3"),
        ("a  {{- .Name -}}  b", "aappb"),
        ("{{/* nothing */}}x", "x"),
        ('{{printf "%-5s|%5d|%05d|%q|%v" .Name .Size .Size .Name .None}}', 'app  |    7|00007|"app"|[]'),
        ('{{.Name | upper | printf "<%s>"}}', "<APP>"),
        ("{{json .Image.RootFS.DiffIDs}}", '["a","b"]'),
        ('{{join .Image.RootFS.DiffIDs ", "}}', "a, b"),
        ('{{if eq .Name "x" "app"}}1{{end}}{{if lt .Size 8}}2{{end}}', "12"),
        ("{{range .Manifest.Manifests}}{{if .Platform.Variant}}{{break}}{{end}}{{.Digest}}{{end}}", "sha256:2"),
        ('{{"a}}b"}}', "a}}b"),
        ('{{`raw "x"`}}', 'raw "x"'),
        ("{{len .Manifest.Manifests}}{{slice .Name 1 3}}", "2pp"),
        ("{{.Labels}}", "map[a:1 b:2 with.dot:3]"),
        ("{{println .Name 1}}", "app 1\n"),
        ("{{.Manifest.Missing}}", ""),
    ],
)
def test_a_template_gives_what_go_gives(text: str, expected: str) -> None:
    assert render(text, DATA) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Name", "not closed"),
        ("{{if .Name}}", "end}} is missing"),
        ("{{end}}", "unexpected"),
        ("{{nope .Name}}", "'nope' is not known"),
        ("{{.Name.Deeper}}", "has no fields"),
        ("{{$x}}", "not declared"),
        ("{{index .None 3}}", "out of range"),
        ('{{define "x"}}{{end}}', "not supported"),
        ("{{(.Name}}", "parenthesis"),
        ("{{}}", "empty"),
        ("{{.Name .Size}}", "only a function"),
        ("{{join .Size}}", "join"),
        ("{{.Name | }}", "missing"),
    ],
)
def test_a_mistake_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(text, DATA)
    assert words in caught.value.message


def test_a_wrong_field_of_a_known_record_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        render("{{.Nmae}}", Fields(Name="x", Manifest=None))
    assert caught.value.hint == "there is: .Name, .Manifest"


@given(st.text())
def test_any_text_gives_a_result_or_a_usage_error(text: str) -> None:
    try:
        render(text, DATA)
    except UsageError:
        return


@given(st.text(alphabet='{}.|$ ()"`ax-/*:=,0'))
def test_any_mix_of_marks_gives_a_result_or_a_usage_error(text: str) -> None:
    try:
        render("{{" + text + "}}", DATA)
    except UsageError:
        return
