"""The kinds of channels: what each needs, and how a message is sent.

DingTalk, WeCom, Feishu and Slack go through apprise, to the vendors' own hosts; e-mail through the server's mail
settings; a webhook is a signed POST of ours.
"""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import apprise
import httpx
import structlog
from apprise.plugins.base import NotifyBase
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.slack import NotifySlack
from apprise.plugins.wecombot import NotifyWeComBot
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow import secrets

from . import net
from .choices import ChannelKind
from .models import AlertChannel

log = structlog.get_logger(__name__)

TIMEOUT = 10.0  # seconds for one message
SIGNATURE = "X-Quartz-Signature"
TIMESTAMP = "X-Quartz-Timestamp"
MAX_RECIPIENTS = 50


class SendFailed(Exception):
    """The message did not go out; the text says why, and holds no secret."""


@dataclass(frozen=True)
class Field:
    """Something that a kind of channel needs to know."""

    name: str
    label: Any
    is_secret: bool = True
    required: bool = True
    pattern: str = r"[A-Za-z0-9_-]{8,128}"
    address: str = ""  # pattern of the whole address that people copy from the vendor, with the value in it


@dataclass(frozen=True)
class Message:
    """What is sent; `facts` go to webhooks as they are."""

    title: str
    body: str
    facts: dict[str, Any]


TOKEN = _lazy("Key of the robot's webhook")
FIELDS: dict[str, tuple[Field, ...]] = {
    ChannelKind.DINGTALK: (
        Field(
            "token",
            _lazy("Access token of the robot"),
            address=r"https://oapi\.dingtalk\.com/robot/send\?access_token=([^&\s]+)",
        ),
        Field("secret", _lazy("Signing secret"), required=False),
    ),
    ChannelKind.WECOM: (
        Field("token", TOKEN, address=r"https://qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key=([^&\s]+)"),
    ),
    ChannelKind.FEISHU: (
        Field("token", TOKEN, address=r"https://open\.feishu\.cn/open-apis/bot/v2/hook/([^/?\s]+)"),
    ),
    ChannelKind.SLACK: (
        Field(
            "token",
            _lazy("The three parts behind hooks.slack.com/services/"),
            pattern=r"[A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]+",
            address=r"https://hooks\.slack\.com/services/([^?\s]+)",
        ),
    ),
    ChannelKind.EMAIL: (
        Field("recipients", _lazy("Recipients, separated by commas"), is_secret=False, pattern=r".{3,2000}"),
    ),
    ChannelKind.WEBHOOK: (
        Field("url", _lazy("URL"), pattern=r"https?://\S{1,1900}"),
        Field("secret", _lazy("Signing secret"), pattern=r"\S{16,128}"),
    ),
}
HOSTS = {
    ChannelKind.DINGTALK: "https://oapi.dingtalk.com",
    ChannelKind.WECOM: "https://qyapi.weixin.qq.com",
    ChannelKind.FEISHU: "https://open.feishu.cn",
    ChannelKind.SLACK: "https://hooks.slack.com",
}


def check_config(
    kind: str, config: Any, *, look_up: bool = True
) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """What is stored of a channel's configuration, and what is wrong with it: field → words."""
    if not isinstance(config, dict):
        return {}, {"config": [_("Must be an object.")]}
    fields = FIELDS[kind]
    errors: dict[str, list[Any]] = {}
    if unknown := sorted(set(config) - {field.name for field in fields}):
        errors["config"] = [_("Unknown: %(names)s.") % {"names": ", ".join(map(str, unknown))}]
    cleaned = {}
    for field in fields:
        value = config.get(field.name) or ""
        if not value and not field.required:
            continue
        if not isinstance(value, str) or not value.strip():
            errors[f"config.{field.name}"] = [_("This field is required.")]
            continue
        value = value.strip()
        if field.address and (found := re.fullmatch(field.address, value)):
            value = found.group(1)
        if not re.fullmatch(field.pattern, value):
            errors[f"config.{field.name}"] = [_("Not of the right form.")]
        else:
            cleaned[field.name] = value
    if "recipients" in cleaned and not errors:
        errors |= _check_recipients(cleaned["recipients"])
    if "url" in cleaned and not errors and look_up:
        try:
            net.resolve(cleaned["url"])
        except net.Refused as error:
            errors["config.url"] = [str(error)]
    return cleaned, errors


def _recipients(text: str) -> list[str]:
    return [part for part in re.split(r"[,;，；\s]+", text) if part]


def _check_recipients(text: str) -> dict[str, list[Any]]:
    people = _recipients(text)
    if len(people) > MAX_RECIPIENTS:
        return {"config.recipients": [_("At most %(count)s.") % {"count": MAX_RECIPIENTS}]}
    for person in people:
        try:
            validate_email(person)
        except ValidationError:
            return {"config.recipients": [_("Not an e-mail address: %(text)s.") % {"text": person}]}
    return {}


def sealed_name(pk: int) -> str:
    """What the configuration is encrypted together with: rows cannot be exchanged."""
    return f"alert_channel:{pk}"


def seal(pk: int, config: dict[str, str]) -> str:
    return secrets.encrypt(sealed_name(pk), json.dumps(config))


def config_of(channel: AlertChannel) -> dict[str, str]:
    """Raises SendFailed where the keys of this machine do not open it."""
    try:
        found: dict[str, str] = json.loads(secrets.unseal(sealed_name(channel.pk), channel.ciphertext))
    except secrets.KeyMissing:
        log.error("alert channel cannot be opened", channel=channel.pk)
        raise SendFailed(_("Its credentials cannot be opened with this machine's keys.")) from None
    return found


def send(channel: AlertChannel, message: Message) -> None:
    """Send it now. Raises SendFailed."""
    config = config_of(channel)
    if channel.kind == ChannelKind.EMAIL:
        _send_mail(config, message)
    elif channel.kind == ChannelKind.WEBHOOK:
        _send_webhook(config, message)
    else:
        _send_apprise(channel.kind, config, message)


def _send_mail(config: dict[str, str], message: Message) -> None:
    title = " ".join(message.title.split())  # a header has one line
    try:
        EmailMessage(title, message.body, to=_recipients(config["recipients"])).send()
    except OSError as error:  # SMTPException is one
        raise SendFailed(
            _("The mail server did not take it: %(kind)s.") % {"kind": type(error).__name__}
        ) from None


_SENDERS: dict[str, Callable[[dict[str, str]], tuple[type[NotifyBase], dict[str, Any]]]] = {
    ChannelKind.DINGTALK: lambda config: (NotifyDingTalk, config),
    ChannelKind.WECOM: lambda config: (NotifyWeComBot, {"key": config["token"]}),
    ChannelKind.FEISHU: lambda config: (NotifyFeishu, config),
    ChannelKind.SLACK: lambda config: (
        NotifySlack,
        dict(zip(("token_a", "token_b", "token_c"), config["token"].split("/"), strict=True)),
    ),
}


def sender(kind: str, config: dict[str, str]) -> NotifyBase:
    """What speaks to the vendor. The class itself, not apprise's choice by URL, which loads all of its services.

    Raises SendFailed for credentials that the vendor cannot have given.
    """
    # Nothing on disk, no redirects: what goes out is decided here.
    memory = apprise.PersistentStoreMode.MEMORY
    asset = apprise.AppriseAsset(secure_logging=True, http_redirects=False, storage_mode=memory)
    make, options = _SENDERS[kind](config)
    try:
        return make(**options, asset=asset, rto=TIMEOUT, cto=TIMEOUT)
    except TypeError:
        raise SendFailed(_("Its credentials are not of the right form.")) from None


def _send_apprise(kind: str, config: dict[str, str], message: Message) -> None:
    try:
        net.resolve(HOSTS[ChannelKind(kind)])
    except net.Refused as error:
        raise SendFailed(str(error)) from None
    if not sender(kind, config).notify(title=message.title, body=message.body):
        raise SendFailed(_("The service did not take it."))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a full stop and the body, in hex."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _send_webhook(config: dict[str, str], message: Message) -> None:
    try:
        target = net.resolve(config["url"])
    except net.Refused as error:
        raise SendFailed(str(error)) from None
    body = json.dumps(
        {"title": message.title, "body": message.body, **message.facts}, ensure_ascii=False
    ).encode()
    timestamp = str(int(time.time()))
    parts = urlsplit(config["url"])
    address = f"[{target.address}]" if ":" in target.address else target.address
    # To the address that was checked, whatever the name means by now; the certificate is the name's.
    url = urlunsplit((parts.scheme, f"{address}:{target.port}", parts.path or "/", parts.query, ""))
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        TIMESTAMP: timestamp,
        SIGNATURE: f"sha256={signature(config['secret'], timestamp, body)}",
    }
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions={"sni_hostname": target.host}
            ) as answer,
        ):
            status = answer.status_code  # what it answers besides is nobody's business
    except httpx.HTTPError as error:
        raise SendFailed(_("No answer: %(kind)s.") % {"kind": type(error).__name__}) from None
    if not 200 <= status < 300:
        raise SendFailed(_("It answered with the status %(status)s.") % {"status": status})
