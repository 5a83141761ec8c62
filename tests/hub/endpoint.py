"""The Hub of this process and all its children: the first import of the tests.

huggingface_hub and transformers read HF_ENDPOINT when they are imported, so the address must stand
before. From then on no test can reach the real Hub; nor, by requests, any other place behind https,
such as the one whose address `RepoCard.validate` has built in.
"""

import os
import sys

from .server import LoopbackHub

if "huggingface_hub" in sys.modules:
    raise ImportError("huggingface_hub was imported before tests.hub.endpoint")

HUB = LoopbackHub()
HUB.start()

NOWHERE = "http://127.0.0.1:9"
os.environ["HF_ENDPOINT"] = HUB.url
os.environ |= {"HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE}
os.environ |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
os.environ.pop("HF_TOKEN", None)
