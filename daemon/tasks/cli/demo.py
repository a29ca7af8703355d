"""`tasksd demo`: the product with a made-up week in it."""

from pathlib import Path

import click

from tasks.errors import EXIT_OK


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, metavar="N", help="Of the page (default: any free one)."
)
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Put everything into this folder, new or empty, and leave it there.",
)
def demo(port: int, no_browser: bool, keep: Path | None) -> int:
    """Look at a week of made-up work, and at agents at work, in the page: no client, no key, no network.

    Everything is in a temporary folder with a daemon of its own; Ctrl-C ends and removes it. Nothing of yours is read or
    changed.
    """
    import webbrowser

    from tasks.demo.show import show

    try:
        show(port=port, keep=keep, say=click.echo, open_page=None if no_browser else webbrowser.open)
    except KeyboardInterrupt:
        click.echo("The demo is over.")
    return EXIT_OK
