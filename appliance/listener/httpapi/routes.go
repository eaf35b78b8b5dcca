package httpapi

import (
	"net/http"
	"slices"
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	put    = http.MethodPut
	remove = http.MethodDelete
	patch  = http.MethodPatch
)

// routes is the table of the interface (DESIGN §8). The most used calls come first: the search is
// from the top.
func (a *api) routes() []route {
	return append([]route{
		{method: post, pattern: "/v1/publish/{topic...}", query: []string{"wait", "timeout"}, serve: a.publishPath},
		{method: post, pattern: "/v1/publish", query: []string{"topic", "wait", "timeout"}, serve: a.publishQuery},
		{method: post, pattern: "/v1/messages", query: []string{"topic", "wait", "timeout"}, serve: a.publishEvents},
		{method: get, pattern: "/v1/messages", query: []string{"topic", "after", "limit", "wait"}, serve: a.history},
		{method: get, pattern: "/v1/messages/{id}", serve: a.trace},
		{method: remove, pattern: "/v1/messages/{id}", serve: a.cancel},

		{method: get, pattern: "/v1/devices/{id}/messages", query: []string{"max", "wait"}, leases: true, serve: a.fetchInbox},
		{method: post, pattern: "/v1/devices/{id}/acks", serve: a.ackInbox},
		{method: get, pattern: "/v1/subscriptions/{name}/messages", query: []string{"max", "wait"}, leases: true, serve: a.fetchNamed},
		{method: post, pattern: "/v1/subscriptions/{name}/acks", serve: a.ackNamed},
		{method: post, pattern: "/v1/subscriptions/{name}/rewind", serve: a.rewind},
		{method: get, pattern: "/v1/subscriptions", serve: a.listSubscriptions},
		{method: put, pattern: "/v1/subscriptions/{name}", serve: a.putSubscription},
		{method: get, pattern: "/v1/subscriptions/{name}", serve: a.showSubscription},
		{method: remove, pattern: "/v1/subscriptions/{name}", serve: a.deleteSubscription},
		{method: post, pattern: "/v1/tickets", serve: a.newTicket},
	}, a.adminRoutes()...)
}

func (a *api) adminRoutes() []route {
	rs := slices.Concat(a.registerRoutes(), a.enrolRoutes(), a.peopleRoutes(), a.bridgeRoutes(), a.watchRoutes(), a.oauthRoutes(), []route{
		{method: get, pattern: "/v1/dead", query: []string{"after", "limit"}, serve: a.listDead},
		{method: get, pattern: "/v1/dead/causes", serve: a.deadCauses},
		{method: post, pattern: "/v1/dead/requeue", serve: a.requeueAll},
		{method: get, pattern: "/v1/jobs", serve: a.listJobs},
		{method: get, pattern: "/v1/jobs/{id}", serve: a.showJob},
		{method: remove, pattern: "/v1/jobs/{id}", serve: a.stopJob},
		{method: get, pattern: "/v1/dead/{entry}", serve: a.showDead},
		{method: remove, pattern: "/v1/dead/{entry}", serve: a.discard},
		{method: post, pattern: "/v1/dead/{entry}/requeue", serve: a.requeue},
		{method: get, pattern: "/v1/status", serve: a.status},
		{method: get, pattern: "/v1/access/check", query: []string{"principal", "action", "topic"}, serve: a.checkAccess},
	})
	for i := range rs {
		rs[i].admin = true
	}
	return append(rs, []route{
		{method: get, pattern: "/metrics", serve: a.metrics},
		{method: get, pattern: "/healthz", open: true, serve: a.health},
		{method: get, pattern: "/openapi.yaml", open: true, serve: a.openAPI},
		{method: get, pattern: "/glance.json", open: true, serve: a.showGlance},
		{method: get, pattern: "/device", query: []string{"user_code"}, open: true, serve: a.devicePage},
	}...)
}

func (a *api) registerRoutes() []route {
	return []route{
		{method: get, pattern: "/v1/devices", query: []string{"search", "group", "state", "after", "limit"}, serve: a.listDevices},
		{method: post, pattern: "/v1/devices", serve: a.addDevice},
		{method: get, pattern: "/v1/devices/{id}", serve: a.showDevice},
		{method: put, pattern: "/v1/devices/{id}", serve: a.updateDevice},
		{method: remove, pattern: "/v1/devices/{id}", serve: a.removeDevice},
		{method: post, pattern: "/v1/devices/{id}/token", serve: a.rotateDevice},
		{method: put, pattern: "/v1/devices/{id}/seal", serve: a.setSeal},

		{method: post, pattern: "/v1/devices/{id}/certificate", serve: a.issueCertificate},
		{method: remove, pattern: "/v1/devices/{id}/certificate", query: []string{"serial"}, serve: a.revokeCertificates},
		{method: get, pattern: "/v1/certificates", query: []string{"device"}, serve: a.listCertificates},
		{method: get, pattern: "/v1/certificate", open: true, serve: a.showCertificate},
		{method: get, pattern: "/v1/authority", serve: a.showAuthority},
		{method: post, pattern: "/v1/authority", serve: a.renewAuthority},

		{method: get, pattern: "/v1/groups", serve: a.listGroups},
		{method: post, pattern: "/v1/groups", serve: a.addGroup},
		{method: get, pattern: "/v1/groups/{name}", serve: a.showGroup},
		{method: remove, pattern: "/v1/groups/{name}", serve: a.removeGroup},
		{method: put, pattern: "/v1/groups/{name}/devices/{id}", serve: a.join},
		{method: remove, pattern: "/v1/groups/{name}/devices/{id}", serve: a.leave},

		{method: get, pattern: "/v1/keys", serve: a.listKeys},
		{method: post, pattern: "/v1/keys", serve: a.addKey},
		{method: get, pattern: "/v1/keys/{name}", serve: a.showKey},
		{method: remove, pattern: "/v1/keys/{name}", serve: a.removeKey},
	}
}

// enrolRoutes are the ways in which devices join.
func (a *api) enrolRoutes() []route {
	return []route{
		{method: post, pattern: "/v1/devices/{id}/claim", serve: a.makeClaim},
		{method: post, pattern: "/v1/import/devices", serve: a.importDevices},
		{method: get, pattern: "/v1/profiles", serve: a.listProfiles},
		{method: post, pattern: "/v1/claim", open: true, serve: a.claim},
		{method: get, pattern: "/v1/join", serve: a.showDoor},
		{method: post, pattern: "/v1/join", serve: a.openDoor},
		{method: remove, pattern: "/v1/join", serve: a.closeDoor},
		{method: post, pattern: "/v1/join/{name}/approve", serve: a.approve},
		{method: post, pattern: "/v1/join/{name}/refuse", serve: a.refuse},
	}
}

func (a *api) peopleRoutes() []route {
	return []route{
		{method: get, pattern: "/v1/setup", open: true, serve: a.showSetup},
		{method: post, pattern: "/v1/setup", open: true, serve: a.setUp},
		{method: post, pattern: "/v1/setup/code", serve: a.newSetupCode},
		{method: get, pattern: "/v1/session", serve: a.showSession},
		{method: post, pattern: "/v1/session", open: true, serve: a.signIn},
		{method: remove, pattern: "/v1/session", serve: a.signOut},
		{method: get, pattern: "/v1/users", serve: a.listUsers},
		{method: post, pattern: "/v1/users", serve: a.addUser},
		{method: get, pattern: "/v1/users/{name}", serve: a.showUser},
		{method: put, pattern: "/v1/users/{name}", serve: a.updateUser},
		{method: remove, pattern: "/v1/users/{name}", serve: a.removeUser},
		{method: put, pattern: "/v1/users/{name}/password", serve: a.setPassword},
		{method: get, pattern: "/v1/audit", query: []string{"after", "limit"}, serve: a.listAudit},
	}
}

// watchRoutes are what the dashboard shows of the whole.
func (a *api) watchRoutes() []route {
	return []route{
		{method: get, pattern: "/v1/live", leases: true, serve: a.live},
		{method: get, pattern: "/v1/live/history", serve: a.liveHistory},
		{method: post, pattern: "/v1/reach", serve: a.reach},
		{method: get, pattern: "/v1/config", serve: a.showConfig},
		{method: post, pattern: "/v1/config/validate", serve: a.checkConfig},
		{method: post, pattern: "/v1/backup", serve: a.makeBackup},
		{method: post, pattern: "/v1/restore", serve: a.restore},
		{method: get, pattern: "/v1/diagnostics", leases: true, serve: a.diagnose},
		{method: put, pattern: "/v1/gateway", serve: a.nameGateway},
		{method: get, pattern: "/v1/issuers", serve: a.listIssuers},
		{method: get, pattern: "/v1/sessions", serve: a.listSessions},
		{method: remove, pattern: "/v1/sessions/{id}", serve: a.endSession},
		{method: get, pattern: "/v1/devices/{id}/queue", query: []string{"limit"}, serve: a.showQueue},
		{method: get, pattern: "/v1/devices/{id}/timeline", query: []string{"limit"}, serve: a.showTimeline},
		{method: put, pattern: "/v1/devices/{id}/queue/{msgid}", serve: a.moveInQueue},
		{method: remove, pattern: "/v1/devices/{id}/queue/{msgid}", serve: a.withdraw},
	}
}
