// Outside issuers whose tokens the gateway takes; they stand in its configuration.
import { t } from "../../core/words";
import { useGet } from "../../ui/load";
import { Card, Code } from "../../ui/parts";
import { Trouble } from "../../ui/problem";
import { Table } from "../../ui/table";

interface Outside {
  name: string;
  iss: string;
  aud: string[] | null;
  algs: string[] | null;
  keys: string;
  device_claim?: string;
}

const example = `[[issuer]]
name = "corp"
iss = "https://idp.example/realms/home"
aud = ["edgepost"]
jwks_url = "https://idp.example/realms/home/keys"`;

export function Issuers() {
  const list = useGet<{ issuers: Outside[] | null }>("/v1/issuers");
  const rows = list.data?.issuers ?? [];
  return (
    <Card title={t("issuers.title")}>
      <Trouble error={list.error} again={list.again} />
      {list.data && rows.length === 0 && (
        <>
          <p class="soft">{t("issuers.none")}</p>
          <Code text={example} />
        </>
      )}
      {rows.length > 0 && (
        <Table
          caption={t("issuers.title")}
          rows={rows}
          id={(i) => i.name}
          columns={[
            { name: t("name"), kind: "lead", cell: (i) => i.name },
            { name: t("tokens.issuer"), cell: (i) => <code class="break">{i.iss}</code> },
            { name: t("issuers.aud"), cell: (i) => (i.aud ?? []).join(", ") },
            { name: t("issuers.algs"), cell: (i) => (i.algs ?? []).join(", ") },
            { name: t("tokens.keys"), cell: (i) => <code class="break">{i.keys}</code> },
          ]}
        />
      )}
    </Card>
  );
}
