"""Go's text/template, as users of docker, buildx and regclient write it for `--format` and in configurations.

Words: an *action* stands between `{{` and `}}`; a *pipeline* hands values from one
command to the next. `parse` makes a tree of nodes, `render` walks it over plain
data (dicts, lists, text, numbers).

Entry: `render.render(text, data, functions)`. Follows Go 1.22, text/template; not
there: `define`, `template`, `block`, methods, channels and complex numbers.
"""
