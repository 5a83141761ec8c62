"""`codax download`: fetch a model, so that everything else works without network."""

import argparse


def add_to(commands) -> None:
    parser = commands.add_parser("download", help="fetch a model into the cache")
    parser.add_argument("name", help="preset name or Hub id")
    parser.add_argument("--revision", help="of the Hub repository: branch, tag or commit")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.conversion import download_model

    hub_options = {"revision": options.revision} if options.revision else {}
    print(download_model(options.name, **hub_options))
    return 0
