"""Names of classes, files and folders that some library would not take literally."""

NAMES = {
    "formula": "Ca$$h $x_1^2$",
    "unfinished formula": r"$\frac{",
    "backslash": r"\alpha \\ C:\new",
    "markup": "[/i] nut",
    "style": "bolt [red]m6[/red]",
    "emoji code": ":bolt: :smile:",
    "format": "{} {0} %s %(x)d 100%",
    "underscore": "_nolegend_",
    "slash": "nut/bolt",
    "html": "R&D <b>x</b> </script> \"q\" 'q'",
    "markdown": "**x** `y` [z](w) # | ~~a~~",
    "lines": "one\ntwo\tthree\r",
    "control": "bell\x07 \x1b[31mred",
    "empty": "",
    "space": " ",
    "long": "very " * 100 + "long",
    "chinese": "螺栓",
    "arabic": "برغي",
    "emoji": "🔩 \N{MAN}\N{ZERO WIDTH JOINER}\N{WRENCH}\N{VARIATION SELECTOR-16}",
    "combined": "e\N{COMBINING ACUTE ACCENT}crou",
}
