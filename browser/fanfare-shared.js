// Built from src by go generate. MIT license.
const Q=1e3,W=1048576,X=3e3,P=()=>crypto.getRandomValues(new Uint32Array(3)).join("-"),V=n=>n.id??n.gap??n.ready??n.position,
U=(n,i)=>{const[l,a,...c]=String(n).split("-"),[m,f,...b]=String(i).split("-");if(!(l!==m||c.length||b.length||![a,f].every(
u=>/^[0-9a-f]+$/.test(u))))return a.length!==f.length?a.length>f.length:a>f};class K{entries=[];bytes=0;from;add(i){const l=V(
i);if(!l||i.gap)this.clear(i.gap);else if(this.from===void 0)this.from=l;else{const a=2*JSON.stringify(i,(c,m)=>c==="byt\
es"?void 0:m).length;this.entries.push({envelope:i,cursor:l,size:a}),this.bytes+=a}for(;this.entries.length>1e3||this.bytes>
1048576;){const{cursor:a,size:c}=this.entries.shift();this.from=a,this.bytes-=c}}clear(i){this.entries=[],this.bytes=0,this.
from=i}after(i){const l=this.entries.findLastIndex?.(({cursor:a})=>a===i)??-1;if(l>=0||i===this.from)return this.entries.
slice(l+1).map(({envelope:a})=>a);if(U(i,this.from))return this.entries.filter(({cursor:a})=>U(a,i)).map(({envelope:a})=>a)}}
const Y=n=>{const{stream:i,options:l}=n,a=P(),c=new K,m={},f=new Map,b=new Map;let u,R,r="alone",h,g=0,O=0,p=0,E,j,T=!1;
const x=()=>performance.now(),w=(e,t,s)=>{clearTimeout(m[e]),m[e]=setTimeout(s,t)},k=(...e)=>e.forEach(t=>clearTimeout(m[t])),
$=()=>globalThis.document?.hidden,d=(e,...t)=>{try{u?.postMessage([a,e,...t])}catch{q(),r==="rides"&&y()}},q=()=>{u?.close(),
u=R=void 0,r==="leads"&&(r="alone")},y=()=>{k("watch","look","take"),r="alone",c.clear(i.lastEventId||void 0);for(const e of b.
values())e("fanfare: the tab that had the connection is gone");n.connect()},A=()=>{E=new Set,j=!1,d("join",i.lastEventId)},
I=()=>{if(!(!u||r!=="alone"||!n.isOpen())){if(!i.lastEventId)return w("ask",100,I);if(T)return z();w("ask",200+Math.random()*
200,()=>{r==="alone"&&n.isOpen()&&z()}),A()}},z=()=>{r="leads",T=!1,g=0,f.clear(),d("lead")},D=e=>{r="alone",d("bye",e),
I()},C=e=>{d("ping",e),w("look",3e3,()=>r==="rides"&&y())},N=()=>{const e=x()-O;if(e>=p)return y();e>=p/3&&C(!1),w("watc\
h",Math.max(10,Math.min(p/3,p-e)),N)},_=(e,t,s,o,M)=>{const S=E;k("ask","take","look"),r="rides",h=e,j=!0,g=t,p=o,O=x(),
n.ride(),n.set(s),N();for(const L of M)S.has(L.id)||H(L)},H=e=>{if(r!=="rides")return;const t=V(e);t&&!e.gap&&U(t,i.lastEventId)===
!1||n.dispatch(e)},B=e=>w("take",e+Math.random()*500,()=>r==="rides"&&y()),J={join:(e,t)=>{const s=i.state==="open"?c.after(
t):void 0;if(!s)return d("refuse",e);f.set(e,x()),d("welcome",e,g,i.state,n.silence(),s)},lead:e=>{!n.isOpen()||e<a?D(e):
d("lead")},ping:(e,t)=>{f.set(e,x()),t&&n.look(),i.state==="open"&&d("pong",n.quiet(),n.silence())},bye:e=>f.delete(e),send:(e,t,s)=>{
i.send(s).then(()=>d("sent",e,t),o=>d("sent",e,t,String(o?.message??o)))}};J.post=J.lead;const F={post:(e,t,s)=>{if(!(e!==
h||!j||t<g)){if(t>g)return y();g++,O=x(),k("take"),n.set("open"),H(s)}},pong:(e,t,s)=>{e===h&&(O=Math.max(O,x()-t),p=s,k(
"look"))},state:(e,t,s)=>{e===h&&(n.set(t),t==="open"?k("take"):B(Math.max(0,s)+($()?p:1e3)))},bye:(e,t)=>{if(e===h){if(h=
t,T=t===a,n.set("connecting"),!t||T)return y();A(),B(3e3)}},lead:e=>{h=e,A(),B(3e3)},welcome:(e,t,...s)=>t===a&&e===h&&!j&&
_(e,...s),refuse:(e,t)=>t===a&&e===h&&y(),sent:(e,t,s,o)=>t===a&&b.get(s)?.(o)},G={welcome:(e,t,...s)=>t===a&&n.isOpen()&&
E&&_(e,...s),refuse:(e,t)=>{t===a&&(k("ask"),w("ask",3e3+Math.random()*3e3,I))},lead:()=>I()};return{enter(){const e=o=>o&&
typeof o!="function"?new URL(o,n.base).href:o&&new URL(n.base).pathname,t=[l.shared,e(l.ws),e(l.sse),!!l.withCredentials,
[...n.granted()??[]].sort()],s="fanfare "+JSON.stringify(t);if(n.isOpen()){if(s!==R){q();try{u=new BroadcastChannel(s)}catch{
return}R=s,c.clear(i.lastEventId||void 0),u.onmessage=({data:[o,M,...S]})=>{({alone:G,leads:J,rides:F})[r][M]?.(o,...S)}}
r==="alone"&&I()}},leave(){const[e]=[...f].reduce((s,o)=>o[1]<s[1]?s:o,[]),t=r;T=!1,r="alone",k("ask","watch","look","ta\
ke"),t!=="alone"&&d("bye",t==="leads"?e:void 0),q()},changed(e,t){r==="leads"?d("state",e,t):e==="open"&&w("ask",0,()=>this.
enter())},received(e){c.add(e),r==="leads"?d("post",g++,e):e.gap?E=void 0:E?.add(e.id)},look:()=>C(!0),send:e=>new Promise(
(t,s)=>{const o=P(),M=L=>{b.delete(o),clearTimeout(S),L===void 0?t():s(new Error(L))},S=setTimeout(M,1e4,"fanfare: the t\
ab that has the connection does not answer");b.set(o,M),d("send",o,e)})}};export{Y as share};
