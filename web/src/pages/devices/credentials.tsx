// How a device proves who it is: its token, a claim code, certificates.
import { useState } from "preact/hooks";
import { path, post, query, remove } from "../../core/api";
import { moment } from "../../core/format";
import { language, t } from "../../core/words";
import { Confirm } from "../../ui/dialog";
import { useGet } from "../../ui/load";
import { Banner, Button, Card, Copy, Select } from "../../ui/parts";
import { complain } from "../../ui/problem";
import { Qr } from "../../ui/qr";
import { Table } from "../../ui/table";
import { Hello } from "../start/hello";

export function Credentials({ id }: { id: string }) {
  return (
    <div class="two">
      <Token id={id} />
      <Claim id={id} />
      <Certificates id={id} />
    </div>
  );
}

function Token({ id }: { id: string }) {
  const [grace, setGrace] = useState("0");
  const [token, setToken] = useState("");
  const [asking, setAsking] = useState(false);
  return (
    <Card title={t("device.token")}>
      <p class="soft">{t("credentials.token.about")}</p>
      {token ? (
        <>
          <Banner mood="calm" icon="info">
            {t("token.once", { id })}
          </Banner>
          <Hello id={id} token={token} />
        </>
      ) : (
        <>
          <Select
            label={t("credentials.grace")}
            value={grace}
            onValue={setGrace}
            options={[
              ["0", t("credentials.grace.none")],
              ["10m", t("credentials.grace.10m")],
              ["1h", t("credentials.grace.1h")],
              ["24h", t("credentials.grace.24h")],
            ]}
          />
          <div>
            <Button onClick={() => setAsking(true)}>{t("credentials.rotate")}</Button>
          </div>
        </>
      )}
      {asking && (
        <Confirm
          title={t("credentials.rotate")}
          text={t("credentials.rotate.text", { id })}
          word=""
          action={t("credentials.rotate")}
          onClose={() => setAsking(false)}
          run={async () => setToken((await post<{ token: string }>(path`/v1/devices/${id}/token`, { grace })).token)}
        />
      )}
    </Card>
  );
}

function Claim({ id }: { id: string }) {
  const [claim, setClaim] = useState<{ claim: string; qr: string }>();
  const make = async () => {
    try {
      setClaim(await post(path`/v1/devices/${id}/claim`));
    } catch (e) {
      complain(e);
    }
  };
  return (
    <Card title={t("credentials.claim")}>
      <p class="soft">{t("credentials.claim.about")}</p>
      {claim ? (
        <div class="row">
          <Qr text={claim.qr} label={t("credentials.claim.qr")} />
          <div class="stack tight">
            <strong class="mono">{claim.claim}</strong>
            <div>
              <Copy text={claim.claim} word={t("copy")} />
            </div>
          </div>
        </div>
      ) : (
        <div>
          <Button onClick={() => void make()}>{t("credentials.claim.make")}</Button>
        </div>
      )}
    </Card>
  );
}

function Certificates({ id }: { id: string }) {
  const list = useGet<{ certificates: { serial: string; until: string }[] | null }>(
    `/v1/certificates${query({ device: id })}`,
  );
  const [revoke, setRevoke] = useState("");
  const rows = list.data?.certificates ?? [];
  return (
    <Card title={t("credentials.certificates")}>
      {rows.length === 0 ? (
        <p class="soft">{t("credentials.certificates.none")}</p>
      ) : (
        <Table
          caption={t("credentials.certificates")}
          rows={rows}
          id={(c) => c.serial}
          columns={[
            { name: t("credentials.serial"), kind: "lead", cell: (c) => <code class="break">{c.serial}</code> },
            {
              name: t("credentials.until"),
              cell: (c) => <span class="number">{moment(c.until, language.value, new Date())}</span>,
            },
            {
              name: t("actions"),
              kind: "tight",
              cell: (c) => (
                <Button look="small danger" onClick={() => setRevoke(c.serial)}>
                  {t("credentials.revoke")}
                </Button>
              ),
            },
          ]}
        />
      )}
      {revoke && (
        <Confirm
          title={t("credentials.revoke")}
          text={t("credentials.revoke.text")}
          word=""
          action={t("credentials.revoke")}
          onClose={() => setRevoke("")}
          run={async () => {
            await remove(path`/v1/devices/${id}/certificate` + query({ serial: revoke }));
            list.again();
          }}
        />
      )}
    </Card>
  );
}
