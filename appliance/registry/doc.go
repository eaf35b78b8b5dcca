// Package registry knows who exists: devices, groups, keys, users, claim codes, and the gateway's own name and epoch.
// It answers from memory and keeps a ledger on a wal directory of its own.
//
// What it promises:
//
//   - A change that returned nil is on stable storage. It is first durable, then visible, then
//     announced to [Registry.Watch], one change at a time and in this order.
//   - Devices, keys and users share one namespace, so that a name in an MQTT username or a receipt
//     topic means one principal.
//   - A token or claim code is shown once, when it is made; only its SHA-256 is kept. Of a password
//     only the hash is kept that the caller made. No two principals share a token.
//   - Who is an administrator once stays so until another one is there: the last user who may
//     administer cannot be removed.
//   - The key that seals a device's payloads ([Registry.SetSeal]) is kept as it is, because sealing needs it: in files of
//     mode 0600, encrypted if the ledger is (wal.Options.Encryption).
//   - Damage is reported ([Registry.Damage]) and costs what it hit; the registry still opens. What a
//     newer version wrote is an error that names the kind: who does not understand a record may not
//     ignore it, it could be a revocation.
//
// # The ledger
//
// A record is one byte for its kind, then its fields; integers are varints (encoding/binary),
// strings and lists carry their length before them.
//
//	kind  meaning           fields
//	1     the gateway       name, epoch, hash of the machine id
//	2     put device        id, label, groups, rules, created (unix ns, 0 unknown), token hash (32 bytes)
//	3     remove device     id
//	4     put group         name, label
//	5     remove group      name; it also leaves every device
//	6     put key           name, label, admin (0, 1), rules, created, token hash
//	7     remove key        name
//	8     snapshot covers   sequence number; only as the first record of a snapshot
//	9     put device        as 2, then profile, guessable (0, 1), token hash before the last, until (unix ns)
//	10    put user          name, label, admin (0, 1), rules, created, password hash (a PHC string)
//	11    remove user       name
//	12    put claim code    device id, valid until (unix ns, 0 for ever), hash of the code (32 bytes)
//	13    remove claim code device id
//	14    put device        as 9, then the form of sealed payloads (1 JWE, 2 binary), its key (32 bytes)
//
// Of 2, 9 and 14 the first is written that says all of the device. A removed device takes its claim code with it.
// Rules are four lists of filters: publish, deny publish, subscribe, deny subscribe. A snapshot is
// the records that make the present tables out of nothing. Opening reads the newest good snapshot
// and the ledger behind the number it covers. The last two snapshots are kept, and the ledger
// from the older one on.
package registry
