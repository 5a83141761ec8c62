"""Refusals as the Hub words them, by status, X-Error-Code and X-Error-Message."""

from .faults import Answer


class RefusedError(Exception):
    """A request that the Hub refuses, with the answer."""

    def __init__(self, status, message, code=None, **headers):
        super().__init__(message)
        if code:
            headers["X_Error_Code"] = code
        self.answer = Answer.of(status, {"error": message}, X_Error_Message=message, **headers)


def require_user(call):
    if call.user is None:
        raise RefusedError(401, "Invalid username or password.")


def repository_of(call):
    """The repository; one that is not there and one that may not be seen look the same."""
    repository = call.hub.repositories.get(call.parts["repo_id"])
    if repository is None or (repository.private and call.user is None):
        status = 401 if call.user is None else 404
        raise RefusedError(status, "Repository not found", "RepoNotFound")
    return repository


def readable(repository, revision):
    try:
        return repository.at(revision)
    except KeyError:
        message = f"Invalid rev id: {revision}"
        raise RefusedError(404, message, "RevisionNotFound") from None


def require_access(call, repository):
    """Files of a gated repository are for its owner and those who were granted access."""
    owner = repository.repo_id.split("/")[0]
    if repository.gated and call.user not in {owner, *repository.readers}:
        message = f"Access to model {repository.repo_id} is restricted."
        raise RefusedError(401 if call.user is None else 403, message, "GatedRepo")


def no_entry(commit, path):
    message = f"Entry not found: {path}"
    return RefusedError(404, message, "EntryNotFound", X_Repo_Commit=commit.sha)
