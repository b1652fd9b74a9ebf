// A real OpenID Connect provider for tests: oidc-provider with two users and without questions, so that whoever is sent here is logged in at
// once. Its users, clients and tokens are gone when it ends.
//
//     node provider.mjs FOLDER HOST PORT ACCESS_SECONDS
//
// FOLDER has `node_modules`. `web` is a client for browsers, `spa` one without a secret, `machine` gets tokens for itself, and `gateway` may
// ask about everybody's tokens.

import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, host, port, seconds] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(path.join(folder, 'node_modules/oidc-provider/lib/index.js')));

const users = {
  ann: { name: 'Ann', email: 'ann@example.test', email_verified: true, roles: ['admin', 'reader'] },
  ben: { name: 'Ben', email: 'ben@example.test', email_verified: true, roles: ['reader'] },
};

const browser = { grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['http://localhost/oauth2/callback'] };
const program = { redirect_uris: [], response_types: [], grant_types: ['client_credentials'] };

const provider = new Provider(`http://${host}:${port}`, {
  clients: [
    { ...browser, client_id: 'web', client_secret: 'a secret: of the gateway, 100% +/' },
    { ...browser, client_id: 'spa', token_endpoint_auth_method: 'none' },
    { ...program, client_id: 'machine', client_secret: 'a-secret-of-the-machine', scope: 'orders:read' },
    { ...program, client_id: 'gateway', client_secret: 'a-secret-of-the-gateway' },
  ],
  scopes: ['openid', 'offline_access', 'orders:read'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], roles: ['roles'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true, logoutSource: (ctx, form) => { ctx.body = page(form); } },
  },
  cookies: { keys: ['a key of the test'] },
  ttl: { AccessToken: Number(seconds), ClientCredentials: 600, IdToken: 300, Interaction: 600, Grant: 3600, Session: 3600, RefreshToken: 3600 },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  findAccount: (ctx, id) => users[id] && { accountId: id, claims: () => ({ sub: id, ...users[id] }) },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
});

// The gateway's port is not known when this begins.
const isOfTest = (url, end) => { const { pathname } = new URL(url); return pathname === end; };
provider.Client.prototype.redirectUriAllowed = (url) => isOfTest(url, '/oauth2/callback');
provider.Client.prototype.postLogoutRedirectUriAllowed = (url) => isOfTest(url, '/bye');

const page = (form) => `<!DOCTYPE html><title>provider</title>${form}
<button form="op.logoutForm" name="logout" value="yes">Log out</button>`;

// Nobody is asked anything: `login_hint` says who it is, and `deny` is nobody.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (params.login_hint === 'deny') {
    const result = { error: 'access_denied', error_description: 'somebody has said no' };
    return provider.interactionFinished(request, response, result);
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: params.login_hint ?? 'ann' } });
  }
  const known = grantId && await provider.Grant.find(grantId);
  const grant = known || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
http.createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response);
  return interact(request, response).catch((error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
}).listen(Number(port), host, () => console.error('listening'));
