"""How quic-flow clients, which have no credential, get in: their source address stands for it.

1. A new client id is entered as "awaiting approval". It may connect and heartbeat; it gets no work.
2. An operator approves it into a group. That pins the address that it has at that moment.
3. From the pinned address it comes back approved. From any other address the approval lapses, and an operator must
   approve it again; nobody gets in from elsewhere while a session of the client is open.
4. The id of an agent, which has a credential, is never given to a quic-flow client, nor the other way round without
   an operator's reset.

Hosts behind one translated address cannot be told from each other by this rule.
"""

import structlog
from django.db import transaction
from django.utils import timezone

from quartzflow.audit import record

from .choices import ClientApproval, ClientKind, ClientStatus
from .models import Client
from .presence import CLIENT_ID, RegisterInfo, RegisterOutcome, mark_online, refused

log = structlog.get_logger(__name__)


def register_legacy(info: RegisterInfo) -> RegisterOutcome:
    """Let a quic-flow client in, or say why not."""
    if not CLIENT_ID.match(info.client_id):
        return refused(
            "invalid", "client id: 1 to 64 of letters, digits, '.', '_' and '-', not starting with a sign"
        )
    with transaction.atomic():
        Client.objects.get_or_create(
            client_id=info.client_id,
            defaults={"kind": ClientKind.LEGACY, "approval": ClientApproval.PENDING, "ip": info.ip},
        )
        client = Client.objects.select_for_update().select_related(None).get(client_id=info.client_id)
        refusal = _refusal(info, client)
        if refusal is not None:
            log.warning("quic-flow client refused", client=info.client_id, ip=info.ip, code=refusal.code)
            return refusal
        if client.approval == ClientApproval.APPROVED and client.approved_ip != info.ip:
            Client.objects.filter(pk=client.pk).update(
                approval=ClientApproval.PENDING, approved_ip="", updated_at=timezone.now()
            )
            record("system", "client.approval_lapse", client, {"ip": [client.approved_ip, info.ip]})
            client.approval = ClientApproval.PENDING
        mark_online(info, client)
    approved = client.approval == ClientApproval.APPROVED
    log.info("quic-flow client connected", client=info.client_id, ip=info.ip, approved=approved)
    return RegisterOutcome(True, client_id=info.client_id, approved=approved)


def _refusal(info: RegisterInfo, client: Client) -> RegisterOutcome | None:
    if client.kind != ClientKind.LEGACY:
        return refused("taken", f"client id {info.client_id} belongs to an agent")
    if client.approval == ClientApproval.REVOKED:
        return refused("revoked", "this client was revoked by an operator")
    if client.status == ClientStatus.ONLINE and client.ip != info.ip:
        return refused("in_use", f"client id {info.client_id} is connected from another address")
    return None
