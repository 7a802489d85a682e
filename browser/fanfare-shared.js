// Built from src by go generate. MIT license.
const Q=1e3,W=1048576,X=3e3,P=()=>crypto.getRandomValues(new Uint32Array(3)).join("-"),V=n=>n.id??n.gap??n.ready??n.position,
U=(n,a)=>{const[l,i,...f]=String(n).split("-"),[m,c,...b]=String(a).split("-");if(!(l!==m||f.length||b.length||![i,c].every(
u=>/^[0-9a-f]+$/.test(u))))return i.length!==c.length?i.length>c.length:i>c};class K{entries=[];bytes=0;from;add(a){const l=V(
a);if(!l||a.gap)this.clear(a.gap);else if(this.from===void 0)this.from=l;else{const i=2*JSON.stringify(a,(f,m)=>f==="byt\
es"?void 0:m).length;this.entries.push({envelope:a,cursor:l,size:i}),this.bytes+=i}for(;this.entries.length>1e3||this.bytes>
1048576;){const{cursor:i,size:f}=this.entries.shift();this.from=i,this.bytes-=f}}clear(a){this.entries=[],this.bytes=0,this.
from=a}after(a){const l=this.entries.findLastIndex?.(({cursor:i})=>i===a)??-1;if(l>=0||a===this.from)return this.entries.
slice(l+1).map(({envelope:i})=>i);if(U(a,this.from))return this.entries.filter(({cursor:i})=>U(i,a)).map(({envelope:i})=>i)}}
const Y=n=>{const{stream:a,options:l}=n,i=P(),f=new K,m={},c=new Map,b=new Map;let u,R,o="alone",h,g=0,O=0,p=0,E,j,T=!1;
const x=()=>performance.now(),w=(e,t,s)=>{clearTimeout(m[e]),m[e]=setTimeout(s,t)},k=(...e)=>e.forEach(t=>clearTimeout(m[t])),
$=()=>globalThis.document?.hidden,d=(e,...t)=>{try{u?.postMessage([i,e,...t])}catch{q(),o==="rides"&&y()}},q=()=>{u?.close(),
u=R=void 0,o==="leads"&&(o="alone")},y=()=>{k("watch","look","take"),o="alone",f.clear(a.lastEventId||void 0);for(const e of b.
values())e("fanfare: the tab that had the connection is gone");n.connect()},A=()=>{E=new Set,j=!1,d("join",a.lastEventId)},
I=()=>{if(!(!u||o!=="alone"||!n.isOpen())){if(!a.lastEventId)return w("ask",100,I);if(T)return z();A(),w("ask",200+Math.
random()*200,()=>{o==="alone"&&n.isOpen()&&z()})}},z=()=>{o="leads",T=!1,g=0,c.clear(),d("lead")},D=e=>{d("bye",e),o="al\
one",I()},C=e=>{d("ping",e),w("look",3e3,()=>o==="rides"&&y())},N=()=>{const e=x()-O;if(e>=p)return y();e>=p/3&&C(!1),w(
"watch",Math.max(10,Math.min(p/3,p-e)),N)},_=(e,t,s,r,M)=>{const S=E;k("ask","take","look"),o="rides",h=e,j=!0,g=t,p=r,O=
x(),n.ride(),n.set(s),N();for(const L of M)S.has(L.id)||H(L)},H=e=>{if(o!=="rides")return;const t=V(e);t&&!e.gap&&U(t,a.
lastEventId)===!1||n.dispatch(e)},B=e=>w("take",e+Math.random()*500,()=>o==="rides"&&y()),J={join:(e,t)=>{const s=a.state===
"open"?f.after(t):void 0;if(!s)return d("refuse",e);c.set(e,x()),d("welcome",e,g,a.state,n.silence(),s)},lead:e=>{!n.isOpen()||
e<i?D(e):d("lead")},ping:(e,t)=>{c.set(e,x()),t&&n.look(),a.state==="open"&&d("pong",n.quiet(),n.silence())},bye:e=>c.delete(
e),send:(e,t,s)=>{a.send(s).then(()=>d("sent",e,t),r=>d("sent",e,t,String(r?.message??r)))}};J.post=J.lead;const F={post:(e,t,s)=>{
if(!(e!==h||!j||t<g)){if(t>g)return y();g++,O=x(),k("take"),n.set("open"),H(s)}},pong:(e,t,s)=>{e===h&&(O=Math.max(O,x()-
t),p=s,k("look"))},state:(e,t,s)=>{e===h&&(n.set(t),t==="open"?k("take"):B(Math.max(0,s)+($()?p:1e3)))},bye:(e,t)=>{if(e===
h){if(h=t,T=t===i,n.set("connecting"),!t||T)return y();A(),B(3e3)}},lead:e=>{h=e,A(),B(3e3)},welcome:(e,t,...s)=>t===i&&
e===h&&!j&&_(e,...s),refuse:(e,t)=>t===i&&e===h&&y(),sent:(e,t,s,r)=>t===i&&b.get(s)?.(r)},G={welcome:(e,t,...s)=>t===i&&
n.isOpen()&&E&&_(e,...s),refuse:(e,t)=>{t===i&&(k("ask"),w("ask",3e3+Math.random()*3e3,I))},lead:()=>I()};return{enter(){
const e=r=>r&&typeof r!="function"?new URL(r,n.base).href:r&&new URL(n.base).pathname,t=[l.shared,e(l.ws),e(l.sse),!!l.withCredentials,
[...n.granted()??[]].sort()],s="fanfare "+JSON.stringify(t);if(n.isOpen()){if(s!==R){q();try{u=new BroadcastChannel(s)}catch{
return}R=s,f.clear(a.lastEventId||void 0),u.onmessage=({data:[r,M,...S]})=>{({alone:G,leads:J,rides:F})[o][M]?.(r,...S)}}
o==="alone"&&I()}},leave(){T=!1;const[e]=[...c].reduce((t,s)=>s[1]>=t[1]?s:t,[]);o!=="alone"&&d("bye",o==="leads"?e:void 0),
k("ask","watch","look","take"),o="alone",q()},changed(e,t){o==="leads"?d("state",e,t):e==="open"&&w("ask",0,()=>this.enter())},
received(e){f.add(e),o==="leads"?d("post",g++,e):e.gap?E=void 0:E?.add(e.id)},look:()=>C(!0),send:e=>new Promise((t,s)=>{
const r=P(),M=L=>{b.delete(r),clearTimeout(S),L===void 0?t():s(new Error(L))},S=setTimeout(M,1e4,"fanfare: the tab that \
has the connection does not answer");b.set(r,M),d("send",r,e)})}};export{Y as share};
