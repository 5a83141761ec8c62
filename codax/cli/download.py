"""`codax download`: fetch a model, so that everything else works without network."""

import argparse


def add_to(commands) -> None:
    parser = commands.add_parser("download", help="fetch a model into the cache")
    parser.add_argument("name", help="preset name or Hub id")
    parser.add_argument("--revision", help="of the Hub repository: branch, tag or commit")
    parser.add_argument("--force", action="store_true", help="also what is in the cache already")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.conversion import download_model

    chosen = {"revision": options.revision, "force_download": options.force}
    print(download_model(options.name, **{name: value for name, value in chosen.items() if value}))
    return 0
